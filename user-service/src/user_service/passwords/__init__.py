"""Passwords, whoever's they are: hashing and checking them, and which new ones are accepted."""
