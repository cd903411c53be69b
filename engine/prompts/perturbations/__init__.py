"""One way to disturb a prompt's inputs a file. Each defines `perturb(asked) -> asked` (see disturbing.py)."""
