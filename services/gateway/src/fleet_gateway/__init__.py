"""One URL in front of the fleet."""
