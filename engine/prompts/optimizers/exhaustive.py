"""Leaves the prompt as it is: scores every candidate on every development row."""
