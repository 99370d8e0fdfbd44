"""The service that owns people."""

from importlib.metadata import version

__version__ = version("user-service")
