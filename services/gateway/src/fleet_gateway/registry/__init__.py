"""Which service offers what."""
