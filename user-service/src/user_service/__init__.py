"""The service that owns people."""
