"""Segments: who would be reached, and who is in a list."""
