"""A service behind the gateway."""

from importlib.metadata import version

__version__ = version("example-service")
