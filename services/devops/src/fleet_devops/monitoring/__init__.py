"""Asking Prometheus, with answers that stay small."""
