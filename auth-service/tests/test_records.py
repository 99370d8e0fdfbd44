"""Whoever can write to the store, but holds no key, makes no record, changes none and puts none in another's place."""

from base64 import b64decode, b64encode

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from auth_service.records import RecordForged, Records

KEY, FORMER, OTHER = b"k" * 32, b"f" * 32, b"o" * 32
SESSIONS = Records([KEY], "session")
FIELDS = st.dictionaries(st.text(max_size=8), st.text(max_size=12), max_size=6)
IDS = st.text(max_size=12)


@given(IDS, FIELDS, IDS, FIELDS)
def test_a_mac_is_good_for_one_records_fields_and_for_nothing_else(
    record_id: str, fields: dict[str, str], other_id: str, other: dict[str, str]
) -> None:
    mac = SESSIONS.mac(record_id, fields)
    SESSIONS.verify(record_id, fields, mac)
    assume((record_id, fields) != (other_id, other))
    with pytest.raises(RecordForged):
        SESSIONS.verify(other_id, other, mac)


@given(IDS, FIELDS.filter(bool), st.data())
def test_any_field_changed_added_or_taken_away_is_refused(
    record_id: str, fields: dict[str, str], data: st.DataObject
) -> None:
    mac = SESSIONS.mac(record_id, fields)
    name = data.draw(st.sampled_from(sorted(fields)))
    value = data.draw(st.text(max_size=12).filter(lambda text: text != fields[name]))
    added = data.draw(st.text(max_size=8).filter(lambda text: text not in fields))
    fewer = {key: text for key, text in fields.items() if key != name}
    for forged in (fields | {name: value}, fields | {added: value}, fewer, fewer | {added: fields[name]}):
        with pytest.raises(RecordForged):
            SESSIONS.verify(record_id, forged, mac)


@given(IDS, st.text(max_size=40), IDS)
def test_a_sealed_record_opens_in_its_own_place_alone(record_id: str, text: str, other_id: str) -> None:
    sealed = SESSIONS.seal(record_id, text)
    assert SESSIONS.open(record_id, sealed).text == text
    assume(record_id != other_id)
    with pytest.raises(RecordForged):
        SESSIONS.open(other_id, sealed)


@given(st.text(max_size=40), st.data())
def test_any_bit_of_a_sealed_record_changed_is_refused(text: str, data: st.DataObject) -> None:
    blob = bytearray(b64decode(SESSIONS.seal("one", text)))
    bit = data.draw(st.integers(0, 8 * len(blob) - 1))
    blob[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RecordForged):
        SESSIONS.open("one", b64encode(blob).decode())


@given(st.text(max_size=60), st.text(max_size=60))
def test_whatever_else_stands_there_is_refused_and_nothing_worse(text: str, mac: str) -> None:
    with pytest.raises(RecordForged):
        SESSIONS.open("one", text)
    with pytest.raises(RecordForged):
        SESSIONS.verify("one", {"sub": text}, mac)


def test_a_record_of_one_kind_is_none_of_another_and_a_mac_is_no_seal() -> None:
    clients = Records([KEY], "client")
    with pytest.raises(RecordForged):
        clients.open("one", SESSIONS.seal("one", "{}"))
    with pytest.raises(RecordForged):
        clients.verify("one", {"a": "b"}, SESSIONS.mac("one", {"a": "b"}))


def test_under_either_key_a_record_is_good_while_one_replaces_the_other_and_then_no_longer() -> None:
    before, meanwhile, after = (
        Records([FORMER], "client"),
        Records([KEY, FORMER], "client"),
        Records([KEY], "client"),
    )
    sealed, mac = before.seal("one", "text"), before.mac("one", {"a": "b"})
    opened = meanwhile.open("one", sealed)
    assert (opened.text, opened.outdated) == ("text", True)
    assert not meanwhile.open("one", meanwhile.seal("one", "text")).outdated
    meanwhile.verify("one", {"a": "b"}, mac)
    after.verify("one", {"a": "b"}, meanwhile.mac("one", {"a": "b"}))
    with pytest.raises(RecordForged):
        after.open("one", sealed)
    with pytest.raises(RecordForged):
        after.verify("one", {"a": "b"}, mac)
    with pytest.raises(RecordForged):
        Records([OTHER], "client").open("one", sealed)


def test_a_sealed_record_tells_nothing_of_its_text() -> None:
    assert "secret" not in b64decode(SESSIONS.seal("one", "secret")).decode("latin-1")
    assert SESSIONS.seal("one", "secret") != SESSIONS.seal("one", "secret")
