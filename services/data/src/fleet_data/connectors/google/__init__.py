"""Google: the mailbox of a tenant."""
