"""Merged lists: what all services together show one kind of caller."""
