"""The fleet command: run it all on a laptop, connect clients, call tools."""
