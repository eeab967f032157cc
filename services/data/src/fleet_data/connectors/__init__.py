"""Accounts at other services: kept sealed, refreshed once, and used without anybody seeing a token."""
