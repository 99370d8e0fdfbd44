"""A signed token in its compact form (RFC 7515), read one way or not at all: three parts, JSON, an ES256 signature."""

import json
from binascii import a2b_base64, b2a_base64
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

MAX_TOKEN = 8 * 1024

_MAX_NESTED = 32
# From base64url to Base64, whose own characters are none of base64url's.
_TO_BASE64 = bytes.maketrans(b"-_+/=", b"+/---")
# Prehashed, as hashlib is quicker than a hash context made for one signature.
_es256 = ECDSA(Prehashed(SHA256()))


class Malformed(ValueError):
    """Why this is no such token, as a sentence without input."""


def split(token: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Header and payload as they stand, the signature, and the bytes that were signed."""
    parts = token.split(b".", 3) if len(token) <= MAX_TOKEN else []
    if len(parts) != 3:
        raise Malformed("It must be three parts and at most 8 KiB.")
    signature = _decode(parts[2])
    if len(signature) != 64:
        raise Malformed("An ES256 signature is 64 bytes.")
    return parts[0], parts[1], signature, token[: token.rindex(b".")]


def read_object(part: bytes) -> dict[str, Any]:
    """Header or payload, whose members have unique names."""
    text = _decode(part)
    # Every level costs a bracket, so few brackets are few levels.
    if text.count(b"{") + text.count(b"[") > _MAX_NESTED:
        raise Malformed("It is nested too deeply.")
    try:
        value = _json.decode(text.decode("utf-8"))
    except ValueError:
        raise Malformed("A part is not a JSON object with unique members.") from None
    if not isinstance(value, dict):
        raise Malformed("A part is not a JSON object with unique members.")
    return value


def is_signed(signed: bytes, key: EllipticCurvePublicKey, signature: bytes) -> bool:
    """ES256 (RFC 7518, 3.4): the signature is R and S, one after the other."""
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    try:
        key.verify(encode_dss_signature(r, s), sha256(signed).digest(), _es256)
    except InvalidSignature:
        return False
    return True


def _decode(part: bytes) -> bytes:
    # Python's decoders overlook padding, foreign characters and trailing bits; no two texts may mean one token,
    # so what was decoded must encode to the very same text.
    text = part.translate(_TO_BASE64) + b"=" * (-len(part) % 4)
    try:
        decoded = a2b_base64(text)
    except ValueError:
        decoded = b""
    if b2a_base64(decoded, newline=False) != text:
        raise Malformed("A part is not base64url.")
    return decoded


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is there twice")
    return members


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


_json = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
