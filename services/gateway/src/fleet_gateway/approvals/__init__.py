"""Approvals out of band: the page on which a person decides what a client could not ask, and its JSON twin."""
