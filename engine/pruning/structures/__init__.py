"""One structured pattern a file; the file's name is its name in profiles. Each defines `shrink(job) -> Smaller`
(see structured.py).
"""
