"""Raw SQL for callers, made harmless by the database itself and not by a parser."""
