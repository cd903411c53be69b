"""Data: text sources, cleaning, tasks with their rows and splits, numeric features."""
