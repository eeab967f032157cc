"""New tenants, empty or filled with believable demo data."""
