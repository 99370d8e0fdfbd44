"""Sign-in limits."""
