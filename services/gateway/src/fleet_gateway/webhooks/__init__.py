"""Providers' deliveries, carried to the services that own them."""
