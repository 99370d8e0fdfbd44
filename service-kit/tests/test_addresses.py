"""The client's address is believed from named peers only."""

import asyncio
import ipaddress
import re
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st

from service_kit import addresses
from service_kit.addresses import ClientAddress, client_address, networks_of


def test_nobody_is_believed_unless_named() -> None:
    rule = ClientAddress([])
    assert rule.of("203.0.113.7", [b"198.51.100.1"]) == "203.0.113.7"
    assert rule.scheme("203.0.113.7", [b"https"], "http") == "http"


def test_the_rightmost_untrusted_entry_is_the_client() -> None:
    rule = ClientAddress(["10.0.0.0/8"])
    assert rule.of("10.0.0.1", [b"1.1.1.1, 198.51.100.9", b"10.2.3.4"]) == "198.51.100.9"


def test_what_stands_left_of_a_malformed_entry_is_not_believed() -> None:
    rule = ClientAddress(["10.0.0.0/8"])
    assert rule.of("10.0.0.1", [b"198.51.100.9, nonsense, 10.0.0.2"]) == "10.0.0.2"


@pytest.mark.parametrize(
    ("entry", "client"),
    [
        (b"203.0.113.7:1234", "203.0.113.7"),
        (b"[2001:db8::1]:443", "2001:db8::1"),
        (b"[2001:db8::1]", "2001:db8::1"),
        (b"[::ffff:203.0.113.7]:65535", "203.0.113.7"),
        (b"198.51.100.9, 10.0.0.2:80", "198.51.100.9"),
        (b"2001:db8::1:443", "2001:db8::1:443"),
    ],
)
def test_an_entry_may_tell_the_port_too(entry: bytes, client: str) -> None:
    assert ClientAddress(["10.0.0.0/8"]).of("10.0.0.1", [entry]) == client


@pytest.mark.parametrize(
    "entry",
    [
        b"203.0.113.7:",
        b"203.0.113.7:65536",
        b"203.0.113.7:-1",
        b"203.0.113.7:+1",
        b"203.0.113.7:1:2",
        b"203.0.113.7: 80",
        b"203.0.113.7:\xb2",
        b"[203.0.113.7]:80",
        b"[203.0.113.7]",
        b"203.0.113:80",
        b"[2001:db8::1",
        b"2001:db8::1]:80",
        b"[2001:db8::1]80",
        b"[2001:db8::1]:",
        b"[[2001:db8::1]]:80",
        b"[]:80",
        b":80",
        b"1:2:3:4:5:6:7:8:443",
    ],
)
def test_what_only_looks_like_an_address_with_a_port_is_nobody(entry: bytes) -> None:
    assert ClientAddress(["10.0.0.0/8"]).of("10.0.0.1", [b"198.51.100.9, " + entry]) == "10.0.0.1"


@given(st.ip_addresses(), st.integers(0, 99999))
def test_an_address_means_the_same_with_and_without_a_port(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
) -> None:
    entry = f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"
    alone = ClientAddress(["10.0.0.1"]).of("10.0.0.1", [str(address).encode()])
    told = ClientAddress(["10.0.0.1"]).of("10.0.0.1", [entry.encode()])
    assert told == (alone if port <= 65535 else "10.0.0.1")


def test_an_ipv4_peer_of_a_dual_stack_socket_is_the_same_party() -> None:
    assert ClientAddress(["127.0.0.1"]).trusts("::ffff:127.0.0.1")


def test_the_name_of_an_interface_which_may_be_any_text_is_no_part_of_an_address() -> None:
    rule = ClientAddress(["10.0.0.0/8", "fe80::/10"])
    assert rule.of("10.0.0.1", [b"2001:db8::7%a\x1b[2J\nb"]) == "2001:db8::7"
    assert rule.of("fe80::1%eth0", [b"198.51.100.9"]) == "198.51.100.9"


def test_the_proto_of_a_trusted_peer_is_believed_if_all_of_it_agrees() -> None:
    rule = ClientAddress(["127.0.0.1"])
    for said in ([b"https"], [b"HTTPS"], [b"wss"], [b"https", b"https"], [b"https, wss"], [b"https ,https"]):
        assert rule.scheme("127.0.0.1", said, "http") == "https", said
    for said in ([b"http"], [b"ws"], [b"ws, http"]):
        assert rule.scheme("127.0.0.1", said, "https") == "http", said
    for said in ([], [b""], [b"https", b"http"], [b"https, http"], [b"ftp"], [b"https,"]):
        assert rule.scheme("127.0.0.1", said, "http") == "http", said
    assert rule.scheme("192.0.2.1", [b"wss"], "http") == "http"


async def test_a_host_name_is_resolved() -> None:
    rule = ClientAddress(["localhost"])
    assert not rule.trusts("127.0.0.1")
    await rule.resolve()
    assert rule.trusts("127.0.0.1")


def arriving(rule: ClientAddress, peer: str, *values: bytes) -> Request:
    headers = [(b"x-forwarded-for", value) for value in values]
    app = SimpleNamespace(state=SimpleNamespace(client_address=rule))
    return Request({"type": "http", "app": app, "client": (peer, 1), "headers": headers})


async def test_a_gateway_that_has_just_started_is_believed_at_its_first_request() -> None:
    rule = ClientAddress(["localhost"])
    assert await client_address(arriving(rule, "127.0.0.1", b"203.0.113.7")) == "203.0.113.7"


async def test_strangers_have_the_names_resolved_a_few_times_a_second_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rule, asked = ClientAddress(["localhost"]), 0

    async def resolve() -> None:
        nonlocal asked
        asked += 1

    monkeypatch.setattr(rule, "resolve", resolve)
    requests = [arriving(rule, "192.0.2.1", b"203.0.113.7") for _ in range(100)]
    assert set(await asyncio.gather(*map(client_address, requests))) == {"192.0.2.1"}
    assert await client_address(arriving(rule, "192.0.2.1")) == "192.0.2.1"
    assert asked == 1


class NameService:
    """What the system says of every name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.fault = 1000.0, 0
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(socket, "getaddrinfo", self.getaddrinfo)
        monkeypatch.setattr(loop, "time", lambda: self.now)

    def getaddrinfo(self, *_: object, **__: object) -> list[Any]:
        if self.fault:
            raise socket.gaierror(self.fault, "it is so")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.7", 0))]


async def test_the_gateway_is_believed_for_a_while_when_the_name_service_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise all callers would have the gateway's address, and share what one may do."""
    rule = ClientAddress(["gateway"])
    with monkeypatch.context() as patched:
        names = NameService(patched)
        await rule.resolve()
        names.fault = socket.EAI_AGAIN
        for after, trusted in (
            (30.0, True),
            (addresses.KEPT_SECONDS - 1, True),
            (addresses.KEPT_SECONDS, False),
        ):
            names.now = 1000.0 + after
            await rule.resolve()
            assert rule.trusts("192.0.2.7") is trusted, after
        names.fault = 0
        await rule.resolve()
        assert rule.trusts("192.0.2.7")


async def test_a_gateway_that_has_no_name_any_more_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = ClientAddress(["gateway"])
    with monkeypatch.context() as patched:
        names = NameService(patched)
        await rule.resolve()
        names.fault = socket.EAI_NONAME
        await rule.resolve()
    assert not rule.trusts("192.0.2.7")


async def test_a_name_that_cannot_be_one_is_nobodys_and_stops_nothing() -> None:
    rule = ClientAddress(["a" * 200, "localhost"])
    await rule.resolve()
    assert rule.trusts("127.0.0.1")


@given(st.lists(st.binary(max_size=64), max_size=4))
def test_no_header_makes_it_fail(values: list[bytes]) -> None:
    assert ClientAddress(["0.0.0.0/0", "::/0"]).of("10.0.0.1", values)


ADDRESSES = st.ip_addresses().map(str)
ENTRIES = (
    ADDRESSES
    | ADDRESSES.map(lambda address: f"  {address}\t")
    | ADDRESSES.map(lambda address: f"{address}:443")
    | ADDRESSES.map(lambda address: f"[{address}]:443")
    | st.sampled_from(
        ["10.0.0.2", "10.9.9.9", "::ffff:10.0.0.3", "::ffff:203.0.113.7", "fe80::1%25eth0", "fe80::1%x\x1b"]
    )
    | st.sampled_from(
        ["", "unknown", "_hidden", "[::1]", "010.0.0.1", "1.2.3", "٣.2.1.1", "10.0.0.1, 10.0.0.2"]
    )
)


def understood(entry: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The rule in other words: an address, without its port and what a link-local one says of its interface."""
    text = entry.strip(" \t")
    if text.startswith("["):
        text, _, after = text[1:].partition("]")
        if ":" not in text or after not in ("", ":443"):
            return None
    elif text.count(":") == 1:
        text = text.removesuffix(":443")
    try:
        address = ipaddress.ip_address(text.partition("%")[0] if ":" in text else text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@given(
    st.lists(ENTRIES, max_size=5),
    st.integers(0, 4),
    st.sampled_from(["10.0.0.1", "::ffff:10.0.0.1", "203.0.113.7"]),
)
def test_the_client_is_the_first_from_the_right_that_is_not_trusted(
    entries: list[str], cut: int, peer: str
) -> None:
    entries = [part for entry in entries for part in entry.split(",")]
    values = [", ".join(some).encode("utf-8") for some in (entries[:cut], entries[cut:]) if some]
    told = ClientAddress(["10.0.0.0/8"]).of(peer, values)
    trusted = ipaddress.ip_network("10.0.0.0/8")
    if peer == "203.0.113.7":
        assert told == peer
        return
    expected = ipaddress.ip_address("10.0.0.1")
    for entry in reversed(entries):
        address = understood(entry)
        if address is None:
            break
        expected = address
        if address not in trusted:
            break
    assert told == str(expected)
    assert re.fullmatch(r"[0-9a-f.:]+", told)  # safe in a header, a log and a key


@pytest.mark.parametrize(
    ("address", "networks"),
    [
        ("203.0.113.7", ("203.0.113.7/32", "203.0.113.0/24")),
        ("::ffff:203.0.113.7", ("203.0.113.7/32", "203.0.113.0/24")),
        ("2001:db8:1:2345::7%eth0", ("2001:db8:1:2345::/64", "2001:db8:1:2300::/56", "2001:db8:1::/48")),
        ("nobody", ("unknown",)),
        ("", ("unknown",)),
    ],
)
def test_an_address_is_in_the_networks_of_these_lengths(address: str, networks: tuple[str, ...]) -> None:
    assert networks_of(address, (32, 24), (64, 56, 48)) == networks
