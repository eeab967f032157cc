"""GitHub, Kubernetes and monitoring, as MCP tools."""
