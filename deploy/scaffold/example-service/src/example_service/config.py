"""The only reader of the environment."""

from service_kit.settings import ServiceSettings, VerifierSettings


class Settings(ServiceSettings, VerifierSettings):
    """A field is a setting: its name in capitals, its type, its default."""
