"""Sequential halving."""
