"""Why a signing key cannot be had."""

from auth_service.exceptions import Unavailable


class KeysUnavailable(Unavailable):
    """The ring was not read yet, or cannot be: `why`, for operators."""

    code = "signing_keys_unavailable"
    title = "The signing keys cannot be read"
    why = "it was not read yet"


class RingMalformed(KeysUnavailable):
    """Never replaced by a new ring: that would refuse every token of the keys that a restored store still has."""

    why = "it is not a ring as this release writes it"


class RingForged(KeysUnavailable):
    """Never replaced either: whoever can write to the store could have deleted it as well."""

    why = "it was damaged or changed, or is sealed under a key-encryption key that is not given here"


class KeyNotInRing(Exception):
    """The operator named a kid that the ring does not hold."""

    code = "key_not_in_ring"
