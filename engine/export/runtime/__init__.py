"""Artifacts run by their own runtimes, each in a process of its own: what loads, answers and how fast."""
