"""Prompts: templates, one scorer, optimizers that choose among candidates, and paired comparison."""
