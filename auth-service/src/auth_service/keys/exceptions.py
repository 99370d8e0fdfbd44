"""Why a signing key cannot be had."""

from auth_service.exceptions import Unavailable


class KeysUnavailable(Unavailable):
    """The ring was not read yet, or cannot be: `why`, for operators."""

    code = "signing_keys_unavailable"
    title = "The signing keys cannot be read"
    why = "it was not read yet"


class RingMalformed(KeysUnavailable):
    """Never replaced by a new ring: that would refuse every token of the keys that a restored store still has."""

    why = "what the store holds as auth:ring is not a ring as we write it"


class SealUnknown(KeysUnavailable):
    why = "a key in it is damaged, or sealed under a key-encryption key that is not given here"


class KeyNotInRing(Exception):
    """The operator named a kid that the ring does not hold."""

    code = "key_not_in_ring"
