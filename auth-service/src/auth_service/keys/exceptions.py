"""Why a signing key cannot be had."""

from auth_service.exceptions import Unavailable


class KeysUnavailable(Unavailable):
    """The ring was not read yet, or is sealed under a key-encryption key that we were not given."""

    code = "signing_keys_unavailable"
    title = "The signing keys cannot be read"


class KeyNotInRing(Exception):
    """The operator named a kid that the ring does not hold."""

    code = "key_not_in_ring"
