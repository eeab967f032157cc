"""Paths that belong to one service and are carried there as they are."""
