"""A signed token in its compact form (RFC 7515), read one way or not at all: three parts, JSON, an ES256 signature."""

import json
from binascii import a2b_base64, b2a_base64
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from service_kit.strict_json import refuse_constant, unique_members

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
    """ES256 (RFC 7518, 3.4): the signature is R and S, one after the other.

    Who has one signature has another, with the curve's order less S; signers make either at random, and the RFC wants
    both accepted. So a token is known by its `jti`, `sid`, `sub` and `kid`, and never by its text.
    """
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    try:
        key.verify(encode_dss_signature(r, s), sha256(signed).digest(), _es256)
    except InvalidSignature:
        return False
    return True


def _decode(part: bytes) -> bytes:
    # Python's decoders overlook padding, foreign characters and trailing bits, so what was decoded must encode to the
    # very same text: no part has two spellings.
    text = part.translate(_TO_BASE64) + b"=" * (-len(part) % 4)
    try:
        decoded = a2b_base64(text)
    except ValueError:
        decoded = b""
    if b2a_base64(decoded, newline=False) != text:
        raise Malformed("A part is not base64url.")
    return decoded


_json = json.JSONDecoder(object_pairs_hook=unique_members, parse_constant=refuse_constant)
