"""One score of parts a file; the file's name is its name in profiles. Each defines `score(evidence) -> [P]`
(see evidence.py), and `PATTERNS`, the structured patterns that it can judge.
"""
