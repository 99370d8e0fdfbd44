"""Tokens that no verifier accepts, each wrong in one way and otherwise good: RFC 8725, 7515, 7519 and 9068 as a table.

For any door: `@pytest.mark.parametrize("bad", REFUSED, ids=str)`, then `bad.make(issuer)` and `bad.code`. What is
signed at all is signed by the issuer's own key, so that nothing but the fault named can be what is refused.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from service_kit.jwks import public_jwk
from service_kit.jws import MAX_TOKEN
from service_kit.testing.issuer import TestIssuer, encode

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of the curve P-256
_HASHES = {"HS256": "sha256", "HS512": "sha512"}
_DEEP = 2_000


@dataclass(frozen=True, slots=True)
class Refused:
    """One way to be wrong; `make` gives the token's text, `code` is the reason that the verifier must give."""

    what: str
    make: Callable[[TestIssuer], str]
    code: str

    def __str__(self) -> str:
        return self.what


def _header(**members: Any) -> Callable[[TestIssuer], str]:
    return lambda issuer: issuer.token(header=members)


def _claims(**members: Any) -> Callable[[TestIssuer], str]:
    return lambda issuer: issuer.token(**members)


def _raw(member: str, text: str) -> Callable[[TestIssuer], str]:
    """A claim whose JSON is this very text."""

    def make(issuer: TestIssuer) -> str:
        claims = {name: value for name, value in issuer.claims().items() if name != member}
        return issuer.sign_raw(
            _json(issuer.header()), b"%b,%b:%b}" % (_json(claims)[:-1], _json(member), text.encode())
        )

    return make


def _text(header: bytes | None = None, claims: bytes | None = None) -> Callable[[TestIssuer], str]:
    """These very bytes as header or claims; `%kid` stands for the key's id."""

    def make(issuer: TestIssuer) -> str:
        head = _json(issuer.header()) if header is None else header.replace(b"%kid", issuer.kid.encode())
        return issuer.sign_raw(head, _json(issuer.claims()) if claims is None else claims)

    return make


def _spelt(change: Callable[[str], str], part: int) -> Callable[[TestIssuer], str]:
    """A part written otherwise; a changed header or payload is signed as it is written."""

    def make(issuer: TestIssuer) -> str:
        # Of these claims no base64 has only letters and digits, and the length wants padding.
        parts = issuer.token(jti="~~~???~~~", sid="?" * 22).split(".")
        assert change(parts[part]) != parts[part]
        parts[part] = change(parts[part])
        return ".".join(parts) if part == 2 else issuer.sign_text(".".join(parts[:2]))

    return make


def _trailing_bits(text: str) -> str:
    """The same bytes by another text: the last character's unused bits are set."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + alphabet[alphabet.index(text[-1]) | 1]


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _parts(change: Callable[[list[str]], list[str]]) -> Callable[[TestIssuer], str]:
    return lambda issuer: ".".join(change(issuer.token().split(".")))


def _signature(change: Callable[[bytes], bytes]) -> Callable[[TestIssuer], str]:
    def make(issuer: TestIssuer) -> str:
        signed, _, signature = issuer.token().rpartition(".")
        return f"{signed}.{encode(change(base64.urlsafe_b64decode(signature + '==')))}"

    return make


def _der(signature: bytes) -> bytes:
    return encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))


def _public(issuer: TestIssuer, form: str) -> bytes:
    """The issuer's public key as an attacker may read it."""
    key = issuer.key.public_key()
    jwk = public_jwk(issuer.kid, key)
    match form:
        case "PEM":
            return key.public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        case "PEM without its last newline":
            return _public(issuer, "PEM").rstrip()
        case "DER":
            return key.public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        case "point":
            return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
        case "JWK":
            return json.dumps(jwk, separators=(",", ":")).encode()
        case _:
            return json.dumps({"keys": [jwk]}).encode()


def _symmetric(alg: str, form: str, said: str | None = None) -> Callable[[TestIssuer], str]:
    """Truly signed with the public key as secret of an HMAC."""

    def make(issuer: TestIssuer) -> str:
        header = issuer.header() | {"alg": said or alg}
        signed = f"{encode(_json(header))}.{encode(_json(issuer.claims()))}"
        return f"{signed}.{encode(hmac.digest(_public(issuer, form), signed.encode(), _HASHES[alg]))}"

    return make


def _unsigned(alg: str) -> Callable[[TestIssuer], str]:
    return lambda issuer: issuer.token(header={"alg": alg}).rpartition(".")[0] + "."


def _rsa(alg: str) -> Callable[[TestIssuer], str]:
    """Truly signed with an RSA key of the attacker's."""

    def make(issuer: TestIssuer) -> str:
        signed = f"{encode(_json(issuer.header() | {'alg': alg}))}.{encode(_json(issuer.claims()))}"
        key = rsa.generate_private_key(65537, 2048)
        scheme: Any = padding.PKCS1v15()
        if alg.startswith("PS"):
            scheme = padding.PSS(padding.MGF1(hashes.SHA256()), hashlib.sha256().digest_size)
        return f"{signed}.{encode(key.sign(signed.encode(), scheme, hashes.SHA256()))}"

    return make


def _by_a_stranger(*, with_the_key: bool) -> Callable[[TestIssuer], str]:
    """Signed by the attacker's key under the issuer's key id, perhaps with the attacker's key in the header."""

    def make(issuer: TestIssuer) -> str:
        stranger = TestIssuer(issuer.url)
        stranger.sign_with(issuer.kid, stranger.key)
        jwk = public_jwk(issuer.kid, stranger.key.public_key()) if with_the_key else None
        return stranger.token(header={"jwk": jwk})

    return make


def _serialised(general: bool) -> Callable[[TestIssuer], str]:
    """RFC 7515, section 7.2."""

    def make(issuer: TestIssuer) -> str:
        protected, payload, signature = issuer.token().split(".")
        one = {"protected": protected, "signature": signature}
        return json.dumps({"payload": payload} | ({"signatures": [one]} if general else one))

    return make


def _algorithms() -> Iterator[Refused]:
    for alg in (
        "none",
        "None",
        "nOnE",
        "NONE",
        "",
        "es256",
        "ES384",
        "ES256K",
        "EdDSA",
        "RS256",
        "PS256",
        "HS256",
    ):
        yield Refused(f"alg {alg or 'empty'} over our own signature", _header(alg=alg), "token_algorithm")
    for value in (None, ["ES256"], True, 0):
        yield Refused(f"alg {value} over our own signature", _header(alg=value), "token_algorithm")
    for alg in ("none", "nOnE", ""):
        yield Refused(f"alg {alg or 'empty'} and no signature", _unsigned(alg), "token_malformed")
    for form in ("PEM", "PEM without its last newline", "DER", "point", "JWK", "JWKS"):
        yield Refused(f"HS256 with the public key's {form}", _symmetric("HS256", form), "token_malformed")
        # An HMAC-SHA512 is as long as a signature of ours, so nothing but the algorithm tells them apart.
        yield Refused(f"HS512 with the public key's {form}", _symmetric("HS512", form), "token_algorithm")
        yield Refused(
            f"HS512 with the public key's {form} called ES256",
            _symmetric("HS512", form, "ES256"),
            "bad_signature",
        )
    for alg in ("RS256", "PS256"):
        yield Refused(f"{alg} by an RSA key", _rsa(alg), "token_malformed")


def _headers() -> Iterator[Refused]:
    for name, kid in (
        ("climbs out of its folder", "../../../../dev/null"),
        ("is SQL", "x' UNION SELECT 'secret' --"),
        ("is 10 kB", "k" * 10_000),
        ("is one too long", "k" * 65),
        ("has a NUL", "key\0"),
        ("is an address", "http://127.0.0.1/key"),
        ("has a newline", "key\n"),
        ("is empty", ""),
        ("is missing", None),
        ("is a number", 7),
        ("is a list", ["key"]),
    ):
        yield Refused(f"a key id that {name}", _header(kid=kid), "token_malformed")
    for name, crit in (
        ("an unknown extension", ["urn:x"]),
        ("a known claim", ["exp"]),
        ("nothing", []),
        ("b64", ["b64"]),
    ):
        yield Refused(f"crit with {name}", _header(crit=crit), "token_malformed")
    yield Refused("b64 false, declared", _header(b64=False, crit=["b64"]), "token_malformed")
    yield Refused("b64 false, undeclared", _header(b64=False), "token_malformed")
    for typ in ("JWT", "jwt", "id+jwt", "rt+jwt", "dpop+jwt", "logout+jwt", "", None, 7, ["at+jwt"]):
        yield Refused(f"typ {'empty' if typ == '' else typ}", _header(typ=typ), "token_type")
    yield Refused(
        "an ID token of ours",
        lambda issuer: issuer.token(
            header={"typ": "JWT"}, aud="first-party", nonce="n", scope=None, roles=None
        ),
        "token_type",
    )
    yield Refused("a stranger's key as jwk", _by_a_stranger(with_the_key=True), "bad_signature")
    yield Refused("a stranger's signature", _by_a_stranger(with_the_key=False), "bad_signature")


def _spellings() -> Iterator[Refused]:
    for part, name in enumerate(("header", "payload", "signature")):
        for what, change in (
            ("padded", lambda text: text + "=" * (-len(text) % 4 or 4)),
            ("with a space behind it", lambda text: text + " "),
            ("with a space in it", lambda text: f"{text[:8]} {text[8:]}"),
            ("with a newline in it", lambda text: f"{text[:8]}\n{text[8:]}"),
            ("with a NUL in it", lambda text: f"{text[:8]}\0{text[8:]}"),
            ("with a letter of no ASCII in it", lambda text: f"{text[:8]}\xe9{text[8:]}"),
            ("with a character too many", lambda text: text + "A" * (1 + (-len(text)) % 4)),
        ):
            yield Refused(f"a {name} {what}", _spelt(change, part), "token_malformed")
    yield Refused("a payload in the other alphabet", _spelt(_other_alphabet, 1), "token_malformed")
    yield Refused("a signature with trailing bits", _spelt(_trailing_bits, 2), "token_malformed")
    yield Refused("a space before it", lambda issuer: f" {issuer.token()}", "token_malformed")
    yield Refused("a newline behind it", lambda issuer: f"{issuer.token()}\n", "token_malformed")
    yield Refused("nothing at all", lambda issuer: "", "token_malformed")
    yield Refused("two dots", lambda issuer: "..", "token_malformed")
    yield Refused("one part", _parts(lambda parts: parts[:1]), "token_malformed")
    yield Refused("two parts", _parts(lambda parts: parts[:2]), "token_malformed")
    yield Refused("four parts", _parts(lambda parts: [*parts, "AAAA"]), "token_malformed")
    yield Refused("an empty fourth part", _parts(lambda parts: [*parts, ""]), "token_malformed")
    yield Refused(
        "five parts, as a JWE has", _parts(lambda parts: [*parts, "AAAA", "AAAA"]), "token_malformed"
    )
    yield Refused("a detached payload", _parts(lambda parts: [parts[0], "", parts[2]]), "token_malformed")
    yield Refused("flattened JSON serialisation", _serialised(general=False), "token_malformed")
    yield Refused("general JSON serialisation", _serialised(general=True), "token_malformed")
    yield Refused("a signature in DER", _signature(_der), "token_malformed")
    yield Refused("a signature of 63 bytes", _signature(lambda signature: signature[:63]), "token_malformed")
    yield Refused(
        "a signature of 65 bytes", _signature(lambda signature: signature + b"\0"), "token_malformed"
    )
    yield Refused("a signature of 64 zeros", _signature(lambda _: bytes(64)), "bad_signature")
    yield Refused(
        "a signature of the curve's order", _signature(lambda _: ORDER.to_bytes(32) * 2), "bad_signature"
    )
    yield Refused("another token's signature", _signature(lambda signature: signature[::-1]), "bad_signature")
    yield Refused("more than 8 KiB", lambda issuer: issuer.token(more="x" * MAX_TOKEN), "token_malformed")


def _other_alphabet(text: str) -> str:
    return text.replace("-", "+").replace("_", "/")


def _documents() -> Iterator[Refused]:
    twice = b'{"alg":"ES256","typ":"at+jwt","kid":"%kid"'
    yield Refused("alg twice", _text(header=twice + b',"alg":"ES256"}'), "token_malformed")
    yield Refused(
        "alg twice, once by an escape", _text(header=twice + rb',"\u0061lg":"ES256"}'), "token_malformed"
    )
    yield Refused("kid twice", _text(header=twice + b',"kid":"another"}'), "token_malformed")
    for name, value in (("sub", '"root"'), ("exp", "9999999999"), ("aud", '"x"')):
        yield Refused(f"{name} twice", _twice(name, value), "token_malformed")
    yield Refused("a claim with a member twice", _raw("more", '{"a":1,"a":2}'), "token_malformed")
    for what, text in (
        ("empty", b""),
        ("a list", b"[]"),
        ("a text", b'"claims"'),
        ("null", b"null"),
        ("no UTF-8", b'{"sub":"\xff"}'),
        ("UTF-16", '{"sub":"ada"}'.encode("utf-16")),
        ("JSON with a byte order mark", b"\xef\xbb\xbf{}"),
        ("JSON and more", b"{} {}"),
        ("JSON with a comment", b'{"sub":"ada"/**/}'),
        ("JSON with a comma too many", b'{"sub":"ada",}'),
        ("lists in lists", b'{"a":' + b"[" * _DEEP + b"]" * _DEEP + b"}"),
        ("objects in objects", b'{"a":' * (_DEEP // 3) + b"1" + b"}" * (_DEEP // 3)),
        ("lists that never end", b"[" * _DEEP),
    ):
        yield Refused(f"claims that are {what}", _text(claims=text), "token_malformed")
        yield Refused(f"a header that is {what}", _text(header=text), "token_malformed")


def _twice(name: str, value: str) -> Callable[[TestIssuer], str]:
    def make(issuer: TestIssuer) -> str:
        claims = b'%b,"%b":%b}' % (_json(issuer.claims())[:-1], name.encode(), value.encode())
        return issuer.sign_raw(_json(issuer.header()), claims)

    return make


def _identities() -> Iterator[Refused]:
    codes = {"iss": "token_claims", "aud": "wrong_audience"}
    for name in ("iss", "aud", "exp", "iat", "sub", "client_id", "jti", "sid"):
        code = codes.get(name, "token_claims")
        yield Refused(f"no {name}", _claims(**{name: None}), code)
        for value in ("null", "7" if name not in ("exp", "iat") else '"7"', "true", "[]", "{}", '""'):
            yield Refused(f"{name} of {value}", _raw(name, value), code)
    for name in ("sub", "client_id", "jti", "sid"):
        yield Refused(f"{name} with a newline", _claims(**{name: "a\nb"}), "token_claims")
        yield Refused(f"{name} of 256 letters", _claims(**{name: "a" * 256}), "token_claims")
    for issuer in (
        "http://localhost:8080/",
        "HTTP://LOCALHOST:8080",
        "http://localhost",
        "https://localhost:8080",
    ):
        yield Refused(f"iss {issuer}", _claims(iss=issuer), "wrong_issuer")
    yield Refused(
        "iss with a space behind it", lambda issuer: issuer.token(iss=f"{issuer.url} "), "wrong_issuer"
    )
    audiences: dict[str, Callable[[str], object]] = {
        "another service": lambda url: "orders",
        "nobody": lambda url: [],
        "us and another": lambda url: [url, "orders"],
        "us twice": lambda url: [url, url],
        "us in a list in a list": lambda url: [[url]],
        "us with a slash": lambda url: f"{url}/",
        "us in capitals": lambda url: url.upper(),
    }
    for what, audience in audiences.items():
        yield Refused(f"aud of {what}", _for(audience), "wrong_audience")
    yield Refused(
        "a service's token",
        lambda issuer: issuer.service_token("orders", "users:read"),
        "wrong_audience",
    )


def _times() -> Iterator[Refused]:
    for name in ("exp", "iat", "nbf", "auth_time"):
        for value in (
            '"9999999999"',
            "true",
            "-1",
            "-0.5",
            "1e400",
            "-1e400",
            "1e13",
            "1" + "0" * 400,
            "[1]",
        ):
            said = value if len(value) < 40 else "400 digits"
            yield Refused(f"{name} of {said}", _raw(name, value), "token_claims")
        for value in ("NaN", "Infinity", "-Infinity", "0x7f", "01", "1" + "0" * 5000):
            said = value if len(value) < 40 else "5000 digits"
            yield Refused(f"{name} of {said}", _raw(name, value), "token_malformed")
    for what, begins, ends, code in (
        ("that expired a minute before the leeway", -400, -91, "token_expired"),
        ("from the far future", 10**6, 10**6 + 300, "token_not_yet_valid"),
        ("that expires before it was issued", 20, 10, "token_lifetime"),
        ("that expires as it is issued", 0, 0, "token_lifetime"),
        ("that lives a day", 0, 86_400, "token_lifetime"),
        ("that lives for ever", 0, 10**9, "token_lifetime"),
    ):
        yield Refused(f"a token {what}", _lasting(begins, ends), code)
    yield Refused("nbf in the future", lambda issuer: _later(issuer, "nbf"), "token_not_yet_valid")


def _rights() -> Iterator[Refused]:
    for name, values in (
        ("scope", ("7", '["a"]', '"a  b"', '" a"', '"a\\tb"', '"a\\"b"', '"\\u0430"', "null")),
        ("roles", ("7", '"admin"', "[7]", '[""]', '["a\\nb"]', '{"admin":true}', "null")),
        ("cv", ('"1"', "true", "-1", "1.5", "[1]")),
    ):
        for value in values:
            yield Refused(f"{name} of {value}", _raw(name, value), "token_claims")


def _for(audience: Callable[[str], object]) -> Callable[[TestIssuer], str]:
    return lambda issuer: issuer.token(aud=audience(issuer.url))


def _lasting(begins: int, ends: int) -> Callable[[TestIssuer], str]:
    """Issued and expiring so many seconds from now."""

    def make(issuer: TestIssuer) -> str:
        now = issuer.claims()["iat"]
        return issuer.token(iat=now + begins, exp=now + ends)

    return make


def _later(issuer: TestIssuer, name: str) -> str:
    return issuer.token(**{name: issuer.claims()["iat"] + 10**6})


REFUSED = (*_algorithms(), *_headers(), *_spellings(), *_documents(), *_identities(), *_times(), *_rights())
