"""Fewer tools at once: a part of them by glob, or two tools that find and call all others."""
