"""The values of single matrices as they lie in files: read without torch, described, and compared with another model's."""
