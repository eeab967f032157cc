"""Retrieval and embeddings, as MCP tools."""
