"""The database's own side: migrations, the roles, and the checks that they are as narrow as they must be."""
