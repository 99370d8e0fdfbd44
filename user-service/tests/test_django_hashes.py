"""Hashes that a real Django made, and hashes that nobody should have to pay for."""

import pytest
from django.contrib.auth import hashers
from hypothesis import given, settings
from hypothesis import strategies as st

from user_service.passwords import django_hashes
from user_service.passwords.django_hashes import UnsupportedHash

pytestmark = pytest.mark.usefixtures("django")

PASSWORD = "correct horse Батарейка 🐎"
DIGEST32 = "A" * 43 + "="
ARGON2_TAIL = "$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43


class CheapPbkdf2(hashers.PBKDF2PasswordHasher):  # type: ignore[misc] # django has no types
    iterations = 1_000


class CheapBcrypt(hashers.BCryptPasswordHasher):  # type: ignore[misc] # django has no types
    rounds = 4


class CheapBcryptSha256(hashers.BCryptSHA256PasswordHasher):  # type: ignore[misc] # django has no types
    rounds = 4


CHEAP = {
    "pbkdf2": CheapPbkdf2(),
    "bcrypt": CheapBcrypt(),
    "bcrypt_sha256": CheapBcryptSha256(),
}
AS_SHIPPED = {
    "pbkdf2": hashers.PBKDF2PasswordHasher(),
    "bcrypt": hashers.BCryptPasswordHasher(),
    "bcrypt_sha256": hashers.BCryptSHA256PasswordHasher(),
    "scrypt": hashers.ScryptPasswordHasher(),
    "argon2": hashers.Argon2PasswordHasher(),
}


def encode(hasher: hashers.BasePasswordHasher, password: str) -> str:
    encoded = hasher.encode(password, hasher.salt())
    assert isinstance(encoded, str)
    return encoded


@pytest.mark.parametrize("name", AS_SHIPPED)
def test_a_hash_that_django_made_lets_its_owner_in(name: str) -> None:
    encoded = encode(AS_SHIPPED[name], PASSWORD)
    assert django_hashes.supported(encoded)
    assert django_hashes.verify(encoded, PASSWORD)
    assert not django_hashes.verify(encoded, PASSWORD + " ")


@pytest.mark.parametrize("name", CHEAP)
@pytest.mark.parametrize("password", ["x" * 200, "ü" * 72, " ", "e\u0301", "\u00e9"], ids=ascii)
def test_long_and_unusual_passwords_agree_with_django(name: str, password: str) -> None:
    # Plain bcrypt in Django refuses over 72 bytes with a current library; hashes from before were cut.
    django_saw = password.encode()[:72].decode() if name == "bcrypt" else password
    encoded = encode(CHEAP[name], django_saw)
    assert django_hashes.verify(encoded, password)
    assert not django_hashes.verify(encoded, "y" + password)


@pytest.mark.parametrize(
    "encoded",
    [
        f"pbkdf2_sha256$3000001$salt${DIGEST32}",
        f"pbkdf2_sha256$99999999999999999999$salt${DIGEST32}",
        f"pbkdf2_sha256$0$salt${DIGEST32}",
        f"pbkdf2_sha256$-1$salt${DIGEST32}",
        f"pbkdf2_sha256$1_000$salt${DIGEST32}",
        f"pbkdf2_sha256$\u0661000$salt${DIGEST32}",
        "pbkdf2_sha256$1000$salt$",
        "pbkdf2_sha256$1000$salt$AAAA",
        "pbkdf2_sha256$1000$salt$%%%",
        "pbkdf2_sha256$1000",
        "bcrypt$$2b$15$" + "a" * 53,
        "bcrypt$$2b$31$" + "a" * 53,
        "bcrypt$$2b$03$" + "a" * 53,
        "bcrypt$$2x$12$" + "a" * 53,
        "bcrypt_sha256$$2b$12$short",
        f"scrypt$1048576$salt$8$1${'A' * 86}==",
        f"scrypt$16384$salt$8$64${'A' * 86}==",
        f"scrypt$16383$salt$8$5${'A' * 86}==",
        f"scrypt$1$salt$8$5${'A' * 86}==",
        f"scrypt$65536$salt$1$1${'A' * 86}==",
        "argon2$argon2id$v=19$m=2097152,t=2,p=8" + ARGON2_TAIL,
        "argon2$argon2id$v=19$m=102400,t=100,p=8" + ARGON2_TAIL,
        "argon2$argon2id$v=19$m=102400,t=2,p=255" + ARGON2_TAIL,
        "argon2$argon2id$v=19$m=8,t=1,p=1,m=2097152" + ARGON2_TAIL,
        "argon2$argon2id$v=19$m=8,t=1,p=8" + ARGON2_TAIL,
        "argon2$argon2id$v=19$m=102400,t=2,p=8",
        "argon2$argon2id$v=19$m=8,t=1,p=1$" + "A" * 13 + "$" + "A" * 22,
        "argon2$argon2id$v=19$m=8,t=1,p=1$" + "B" * 11 + "$" + "A" * 22,
        "md5$salt$0123456789abcdef0123456789abcdef",
        "pbkdf2_sha1$1000$salt$AAAA",
        "!unusable",
        "!",
        "",
        "plain text",
    ],
)
def test_an_absurd_or_unknown_hash_is_not_supported(encoded: str) -> None:
    assert not django_hashes.supported(encoded)
    with pytest.raises(UnsupportedHash) as refused:
        django_hashes.verify(encoded, PASSWORD)
    assert str(refused.value) == ""


@settings(max_examples=40)
@given(st.text(max_size=120) | st.from_regex(r"(pbkdf2_sha256|bcrypt|argon2)\$.{0,60}", fullmatch=True))
def test_no_text_is_worse_than_unsupported(encoded: str) -> None:
    assert django_hashes.supported(encoded) in (True, False)


def test_a_nul_in_the_password_is_just_another_wrong_password() -> None:
    for hasher in CHEAP.values():
        assert not django_hashes.verify(encode(hasher, PASSWORD), "a\0b")
