"""Selling: moving deals through their stages, counting them, and turning leads into contacts."""
