"""One domain of the service."""
