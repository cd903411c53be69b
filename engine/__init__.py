"""Compression, prompt optimization and verification as a library: profiles go in, events and artifacts come out."""
