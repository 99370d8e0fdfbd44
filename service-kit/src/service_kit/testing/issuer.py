"""An issuer of access tokens with keys of its own."""

from typing import Any


class TestIssuer:
    """Signs what it is told to, right or wrong."""

    __test__ = False  # pytest must not collect it for its name

    def __init__(self, url: str = "http://localhost:8080") -> None:
        raise NotImplementedError

    def token(self, **claims: Any) -> str:
        """A consumer's token; claims given replace the usual ones, None removes one."""
        raise NotImplementedError

    def service_token(self, audience: str, scope: str, **claims: Any) -> str:
        """A service's token for `audience`."""
        raise NotImplementedError

    def jwks(self) -> dict[str, Any]:
        """The public keys."""
        raise NotImplementedError
