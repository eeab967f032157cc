"""Where a request goes, and how it gets there."""
