"""People: the users table and everything that is asked of it."""
