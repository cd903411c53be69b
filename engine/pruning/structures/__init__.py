"""One structured pattern a file; the file's name is its name in profiles. Each defines `shrink(job) -> Smaller` and, where
they have any, `SCORE`, its own score of parts (see scores/), and `check(job)`, which refuses early what cannot be
(see structured.py).
"""
