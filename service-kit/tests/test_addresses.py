"""The client's address is believed from named peers only."""

from hypothesis import given
from hypothesis import strategies as st

from service_kit.addresses import ClientAddress


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


def test_an_ipv4_peer_of_a_dual_stack_socket_is_the_same_party() -> None:
    assert ClientAddress(["127.0.0.1"]).trusts("::ffff:127.0.0.1")


def test_one_proto_from_a_trusted_peer_is_believed_and_two_are_not() -> None:
    rule = ClientAddress(["127.0.0.1"])
    assert rule.scheme("127.0.0.1", [b"https"], "http") == "https"
    assert rule.scheme("127.0.0.1", [b"https", b"https"], "http") == "http"


async def test_a_host_name_is_resolved() -> None:
    rule = ClientAddress(["localhost"])
    assert not rule.trusts("127.0.0.1")
    await rule.resolve()
    assert rule.trusts("127.0.0.1")


async def test_a_name_that_cannot_be_one_is_nobodys_and_stops_nothing() -> None:
    rule = ClientAddress(["a" * 200, "localhost"])
    await rule.resolve()
    assert rule.trusts("127.0.0.1")


@given(st.lists(st.binary(max_size=64), max_size=4))
def test_no_header_makes_it_fail(values: list[bytes]) -> None:
    assert ClientAddress(["0.0.0.0/0", "::/0"]).of("10.0.0.1", values)
