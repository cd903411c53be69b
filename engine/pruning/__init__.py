"""Parameter pruning: criteria decide what goes, masks project onto a pattern, step.py walks the model."""
