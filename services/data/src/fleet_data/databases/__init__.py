"""Other PostgreSQL databases, by name: the same walls round them, as far as they let us."""
