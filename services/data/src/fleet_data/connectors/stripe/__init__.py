"""Stripe: customers and invoices, read."""
