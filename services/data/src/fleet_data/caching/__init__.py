"""Records kept in Redis for a while: what is read often is read once, and a change is seen at once by every replica."""
