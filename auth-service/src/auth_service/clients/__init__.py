"""Registered OAuth clients, and who of them is calling."""
