"""One reading of an e-mail address at every door."""

import pytest
from conftest import PASSWORD, Service
from hypothesis import given
from hypothesis import strategies as st

from user_service.users.email import InvalidEmail, parse_email


@pytest.mark.parametrize(
    ("typed", "key"),
    [
        ("Jose@Example.COM", "jose@example.com"),
        (" jose@example.com\n", "jose@example.com"),
        ("Jose\u0301@example.com", "josé@example.com"),
        ("STRASSE@example.com", "strasse@example.com"),
        ("straße@example.com", "strasse@example.com"),
        ("a@ｅｘａｍｐｌｅ.com", "a@example.com"),
        ("a@bücher.example", "a@xn--bcher-kva.example"),
        ("a@straße.example", "a@xn--strae-oqa.example"),
        ("a@BÜCHER.example", "a@xn--bcher-kva.example"),
    ],
)
def test_equal_addresses_have_one_key(typed: str, key: str) -> None:
    assert parse_email(typed).key == key


@pytest.mark.parametrize(
    "typed",
    [
        "", "@", "a@", "@b.example", "no-at", "a b@c.example", "a..b@c.example", ".a@c.example", "a.@c.example",
        "jo\u200bse@example.com", "jose@exam\u200bple.com", "ｊose@example.com", "jo\u00adse@example.com",
        "jose\x00@example.com", "ﬁ@example.com", "a@b@c.example", "a@-b.example", "a@b..example", "a@[127.0.0.1]",
        "a@exam_ple.com", "\"a\"@example.com", "a" * 65 + "@example.com", "a@" + "b" * 64 + ".example",
        "a@example.com.", "a@example.com。", "a@localhost.", "a@127.0.0.1", "a@2130706433", "a@0x7f000001",
        "a@１２７.０.０.１", "a@example.1", "a@" + ".".join(["b" * 60] * 5), "\u202ea@example.com", "a\ud800@example.com",
        "=?utf-8?q?eve=40evil.example=2c?=@example.com", "=?utf-8?b?w6k=?=@example.com",
    ],
)  # fmt: skip
def test_what_could_be_read_two_ways_is_refused(typed: str) -> None:
    with pytest.raises(InvalidEmail):
        parse_email(typed)


@pytest.mark.parametrize("address", ["ada@localhost", "ada@intranet", "ada@mail.corp.internal"])
async def test_names_of_an_internal_network_are_addresses(service: Service, address: str) -> None:
    """What has no dot may be a slip; it may as well be the network's mail server, and no list knows which."""
    await service.register(address)
    assert (await service.verify(address.upper()))["verified"]


@given(st.text(max_size=30), st.text(max_size=20))
def test_any_text_is_refused_or_has_a_stable_key(local: str, domain: str) -> None:
    try:
        first = parse_email(f"{local}@{domain}.example")
    except InvalidEmail:
        return
    assert parse_email(first.key).key == first.key
    assert parse_email(first.address) == first


async def test_every_door_opens_for_the_same_account(service: Service) -> None:
    ada = await service.register("Ada@Bücher.example")
    for typed in ("ada@bücher.example", "ADA@XN--BCHER-KVA.EXAMPLE", " Ada@Bücher.Example "):
        assert (await service.verify(typed))["user"]["id"] == str(ada.id)
        found = (await service.admin().get("/v1/users", params={"email": typed})).json()["items"]
        assert [one["email"] for one in found] == ["Ada@Bücher.example"]
        again = {"email": typed, "name": "Eve", "password": PASSWORD}
        assert (await service.anonymous.post("/v1/users", json=again)).status_code == 409


async def test_accents_and_lookalikes_are_other_people_or_none(service: Service) -> None:
    await service.register("jose@example.com")
    await service.register("josé@example.com")
    for hidden in ("jo\u200bse@example.com", "ｊose@example.com"):
        body = {"email": hidden, "name": "Eve", "password": PASSWORD}
        assert (await service.anonymous.post("/v1/users", json=body)).status_code == 422
        assert (await service.verify(hidden))["reason"] == "unknown"
