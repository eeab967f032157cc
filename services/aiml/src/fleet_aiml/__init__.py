"""Retrieval and embeddings, as MCP tools."""

from importlib.metadata import version

__version__ = version("fleet-aiml")
