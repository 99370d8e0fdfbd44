"""Sign-in sessions, keys and tokens."""
