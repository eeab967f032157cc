"""Scoring leads: how likely each is to convert, and why, by a model whose reasons add up exactly."""
