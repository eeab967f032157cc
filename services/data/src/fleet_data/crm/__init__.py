"""The CRM: one set of tools for every kind of record, driven by one registry of objects and fields."""
