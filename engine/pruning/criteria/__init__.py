"""One criterion a file; the file's name is its name in profiles. Each defines `CRITERION` (see criterion.py)."""
