"""The database's own side: migrations, the three roles, and the checks that they are as narrow as they must be."""
