"""Export: one format a file under formats/; verify.py reloads what was written and measures it."""
