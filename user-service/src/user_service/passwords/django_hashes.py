"""Password hashes as Django stores them: `algorithm$…`, checked once at the first sign-in, then replaced.

The stored text chooses the cost of checking it, and it comes from a file that somebody gave us. So the cost
is read first, and a hash that would take more than some two seconds or 128 MiB is not supported.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass

import argon2
import bcrypt

MAX_PBKDF2_ITERATIONS = 3_000_000  # Django 6.1 makes 1.5 million
MAX_BCRYPT_ROUNDS = 14  # Django makes 12; each step doubles the cost
MAX_SCRYPT_WORK = 2**21  # n * r * p; Django makes 2**14 * 8 * 5
MAX_SCRYPT_BYTES = 64 * 2**20
MAX_ARGON2_KIB = 128 * 2**10  # Django makes 100 MiB, 2 passes, 8 lanes
MAX_ARGON2_WORK = 512 * 2**10  # KiB * passes
MAX_ARGON2_LANES = 16

BCRYPT = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}")
ARGON2 = re.compile(
    r"\$argon2(?:id|i|d)\$v=19\$m=([1-9][0-9]{0,9}),t=([1-9][0-9]{0,9}),p=([1-9][0-9]{0,9})"
    r"\$[+/A-Za-z0-9]{11,86}\$[+/A-Za-z0-9]{22,86}"
)
DECIMAL = re.compile(r"[1-9][0-9]{0,9}")

# What Django hands bcrypt: the password itself, or the hex digest of it.
Prepare = Callable[[bytes], bytes]


class UnsupportedHash(Exception):
    """Not one of the forms below, or of an absurd cost. Never carries the hash."""


@dataclass(frozen=True, slots=True)
class Pbkdf2:
    iterations: int
    salt: bytes
    digest: bytes
    kib: int = 0

    def matches(self, password: bytes) -> bool:
        made = hashlib.pbkdf2_hmac("sha256", password, self.salt, self.iterations, len(self.digest))
        return hmac.compare_digest(made, self.digest)


@dataclass(frozen=True, slots=True)
class Scrypt:
    n: int
    r: int
    p: int
    salt: bytes
    digest: bytes

    @property
    def kib(self) -> int:
        return 128 * self.n * self.r // 1024

    def matches(self, password: bytes) -> bool:
        made = hashlib.scrypt(
            password,
            salt=self.salt,
            n=self.n,
            r=self.r,
            p=self.p,
            maxmem=2 * MAX_SCRYPT_BYTES,  # OpenSSL counts its working copies too
            dklen=len(self.digest),
        )
        return hmac.compare_digest(made, self.digest)


@dataclass(frozen=True, slots=True)
class Bcrypt:
    encoded: bytes
    prepare: Prepare
    kib: int = 0

    def matches(self, password: bytes) -> bool:
        return bcrypt.checkpw(self.prepare(password), self.encoded)


@dataclass(frozen=True, slots=True)
class Argon2:
    encoded: str
    kib: int

    def matches(self, password: bytes) -> bool:
        try:
            return argon2.PasswordHasher().verify(self.encoded, password)
        except argon2.exceptions.VerifyMismatchError:
            return False


OldHash = Pbkdf2 | Scrypt | Bcrypt | Argon2


def verify(encoded: str, password: str) -> bool:
    """True if `password` made `encoded`. Takes up to about two seconds: never call it on the event loop."""
    return parse(encoded).matches(password.encode())


def supported(encoded: str) -> bool:
    """Whether a sign-in with this hash can ever succeed here."""
    try:
        parse(encoded)
    except UnsupportedHash:
        return False
    return True


def kib(encoded: str) -> int:
    """The memory that checking it takes; 0 for what takes next to none, and for a hash of ours."""
    try:
        return parse(encoded).kib
    except UnsupportedHash:
        return 0


def parse(encoded: str) -> OldHash:
    algorithm, _, rest = encoded.partition("$")
    try:
        match algorithm:
            case "pbkdf2_sha256":
                return _pbkdf2(*rest.split("$"))
            case "scrypt":
                return _scrypt(*rest.split("$"))
            case "bcrypt":
                return _bcrypt(rest, _first_72_bytes)
            case "bcrypt_sha256":
                return _bcrypt(rest, _hex_digest)
            case "argon2":
                return _argon2("$" + rest)
    except (TypeError, ValueError):
        pass  # the wrong number of parts, or not base64
    raise UnsupportedHash


def _pbkdf2(iterations: str, salt: str, digest: str) -> Pbkdf2:
    return Pbkdf2(_number(iterations, MAX_PBKDF2_ITERATIONS), salt.encode(), _digest(digest, length=32))


def _scrypt(n: str, salt: str, r: str, p: str, digest: str) -> Scrypt:
    cost, block, lanes = _number(n, 2**20), _number(r, 64), _number(p, 64)
    if cost.bit_count() != 1 or cost == 1:
        raise UnsupportedHash
    if cost * block * lanes > MAX_SCRYPT_WORK or 128 * cost * block > MAX_SCRYPT_BYTES:
        raise UnsupportedHash
    if cost >= 2 ** (16 * block):  # RFC 7914, section 6
        raise UnsupportedHash
    return Scrypt(cost, block, lanes, salt.encode(), _digest(digest, length=64))


def _bcrypt(encoded: str, prepare: Prepare) -> Bcrypt:
    shape = BCRYPT.fullmatch(encoded)
    if shape is None or not 4 <= int(shape[1]) <= MAX_BCRYPT_ROUNDS:
        raise UnsupportedHash
    return Bcrypt(encoded.encode(), prepare)


def _argon2(encoded: str) -> Argon2:
    shape = ARGON2.fullmatch(encoded)
    if shape is None:
        raise UnsupportedHash
    memory, passes, lanes = (int(number) for number in shape.groups())
    if not 8 * lanes <= memory <= MAX_ARGON2_KIB or lanes > MAX_ARGON2_LANES:
        raise UnsupportedHash
    if memory * passes > MAX_ARGON2_WORK:
        raise UnsupportedHash
    if not all(map(_is_base64, encoded.split("$")[-2:])):
        raise UnsupportedHash
    return Argon2(encoded, memory)


def _first_72_bytes(password: bytes) -> bytes:
    # bcrypt never read further. Its library used to cut silently and now refuses; old hashes were cut.
    return password[:72]


def _hex_digest(password: bytes) -> bytes:
    return binascii.hexlify(hashlib.sha256(password).digest())


def _number(text: str, most: int) -> int:
    if not DECIMAL.fullmatch(text) or int(text) > most:
        raise UnsupportedHash
    return int(text)


def _is_base64(text: str) -> bool:
    """Whether argon2 can decode it: without padding, and with no bit set that belongs to no byte."""
    decoded = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    return base64.b64encode(decoded).decode().rstrip("=") == text


def _digest(text: str, length: int) -> bytes:
    digest = base64.b64decode(text, validate=True)
    if len(digest) != length:
        raise UnsupportedHash
    return digest
