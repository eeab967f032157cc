"""What every service of the fleet does the same way."""
