"""The header that names what a response ended: what is written is read, and nothing else counts."""

import string
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_kit.response_revocations import (
    HEADER,
    MOST_BYTES,
    MOST_ENTRIES,
    Malformed,
    TooLarge,
    headers,
    read,
)
from service_kit.revocations import Revocation

IDS = st.text(string.ascii_letters + string.digits + string.punctuation + " ", min_size=1, max_size=255)
TIMES = st.integers(0, 10**12)
SESSIONS = st.builds(Revocation, st.just("session"), IDS, TIMES)
SUBJECTS = st.builds(Revocation, st.just("subject"), IDS, TIMES, st.integers(0, 2**31))


def lines(value: str) -> list[bytes]:
    return [value.encode()]


@given(st.lists(SESSIONS | SUBJECTS, min_size=1, max_size=10))
def test_what_is_written_is_read(revocations: list[Revocation]) -> None:
    assert read(lines(headers(revocations)[HEADER])) == revocations


def test_a_response_that_ended_nothing_has_no_such_header() -> None:
    assert headers([]) == {}


def test_the_form_is_the_documented_one() -> None:
    ended = [Revocation("session", "4ZkS", 1764511200), Revocation("subject", "01", 1764511200, 7)]
    written = 'session;until=1764511200;sid="4ZkS", subject;until=1764511200;sub="01";cv=7'
    assert headers(ended) == {"Gatehouse-Revoked": written}


def test_entries_in_several_lines_are_read_as_in_one() -> None:
    ended = [Revocation("session", name, 1) for name in "abc"]
    assert read([headers([one])[HEADER].encode() for one in ended]) == ended


@given(st.integers(1, 255), st.integers(0, 200))
def test_what_is_written_never_exceeds_what_is_read(length: int, count: int) -> None:
    ended = [Revocation("session", str(number).rjust(length, '"')[-length:], 1) for number in range(count)]
    written = headers(ended)
    if not count:
        return
    found = read(lines(written[HEADER]))
    assert found == ended[: len(found)], "the first ones are named"
    assert len(found) == count or len(found) == MOST_ENTRIES or len(written[HEADER]) > MOST_BYTES - 600


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=3))
def test_anything_else_is_read_or_refused_and_never_breaks_the_reader(values: list[bytes]) -> None:
    try:
        found = read(values)
    except (Malformed, TooLarge):
        return
    assert all(revocation.kind in ("session", "subject") for revocation in found)


@given(SUBJECTS, st.integers(0, 600), st.sampled_from(string.printable))
def test_a_changed_character_is_read_or_refused(revocation: Revocation, at: int, character: str) -> None:
    value = headers([revocation])[HEADER]
    with suppress(Malformed, TooLarge):
        read(lines(value[:at] + character + value[at + 1 :]))


def test_kinds_and_parameters_that_are_not_known_are_passed_over() -> None:
    value = 'galaxy;until=5;name="x", session;until=5;sid="a";why="left", key;until=5;kid="k"'
    assert read(lines(value)) == [Revocation("session", "a", 5)], "and a response names no key"


@pytest.mark.parametrize(
    "value",
    [
        "",
        ",",
        "session",
        "session;until=5",
        'session;sid="a"',
        'session;until=5;sid=""',
        'session;until="5";sid="a";sid="b"',
        "session;until=5;sid=a",
        'session;until=-5;sid="a"',
        'session;until=5.5;sid="a"',
        'session;until=5;sid="a\\n"',
        'session;until=5;sid="a" session;until=5;sid="b"',
        'session;until=5;sid="a",',
        'session;until=5;sid="a"\n',
        'subject;until=5;sub="a"',
        'subject;until=5;sub="a";cv="x"',
        f'session;until=5;sid="{"a" * 256}"',
        'session;until=1234567890123456;sid="a"',
        'session;until=٥;sid="a"',
        'session;until=5;sid="ä"',
    ],
)
def test_nothing_of_a_malformed_value_counts(value: str) -> None:
    with pytest.raises(Malformed):
        read(lines(f'session;until=5;sid="good", {value}'))


def test_more_than_anybody_reads_is_refused_whole() -> None:
    entry = b'session;until=5;sid="a"'
    assert len(read([entry] * MOST_ENTRIES)) == MOST_ENTRIES
    with pytest.raises(TooLarge):
        read([entry] * (MOST_ENTRIES + 1))
    with pytest.raises(TooLarge):
        read([entry + b" " * MOST_BYTES])
