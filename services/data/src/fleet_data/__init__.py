"""A CRM on PostgreSQL and safe SQL, as MCP tools."""
