"""Workflows: a trigger, then waits, conditions and actions for each contact it happened to."""
