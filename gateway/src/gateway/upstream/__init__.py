"""The way to the services: their addresses, connections, and one exchange at a time on each of these."""
