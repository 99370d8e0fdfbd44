"""Sign-in sessions, refresh tokens, signing keys, access tokens and revocations."""

from importlib.metadata import version

__version__ = version("auth-service")
