"""PostgreSQL and Valkey from wheels, under launchers of our own: loopback, password, no root, no container."""
