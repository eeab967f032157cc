"""One URL in front of the fleet: authenticates, routes on MCP headers, streams both ways."""

__version__ = "0.1.0"
