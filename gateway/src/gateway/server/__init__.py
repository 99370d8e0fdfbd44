"""The connections of clients, and what all connections of a worker share."""
