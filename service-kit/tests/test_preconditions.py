"""Whether a change was made from what is there now, and whether a client holds it already."""

import pytest

from service_kit.preconditions import (
    PreconditionFailed,
    PreconditionRequired,
    WeakETag,
    etag,
    is_known,
    require_match,
)


@pytest.mark.parametrize(
    "header",
    ['"5"', '"4", "5"', '"4","5"', 'W/"5", "5"', '"a,b", "5"', '"5-gzip", "5"', "*", " * ", ' "5" ,'],
)
def test_a_change_made_from_this_version_passes(header: str) -> None:
    require_match(header, 5)


@pytest.mark.parametrize(
    "header", ['"4"', "5", '"55"', 'W/"4"', '"4-gzip"', '"5x"', '"x-5"', '"a, 5"', '"*"', "W/5"]
)
def test_a_change_made_from_another_version_does_not(header: str) -> None:
    with pytest.raises(PreconditionFailed):
        require_match(header, 5)


@pytest.mark.parametrize("header", [None, "", " "])
def test_a_change_made_from_nothing_is_asked_for_its_version(header: str | None) -> None:
    with pytest.raises(PreconditionRequired):
        require_match(header, 5)


@pytest.mark.parametrize(
    "header",
    [
        'W/"5"',
        '"5-gzip"',
        '"5-br"',
        '"5--gzip"',
        '"5;gzip"',
        '"5-zstd"',
        'W/"5-gzip"',
        '"4", W/"5"',
        'W/"4", "5-gzip"',
    ],
)
def test_a_tag_that_a_compressing_proxy_changed_is_told_from_a_change(header: str) -> None:
    with pytest.raises(WeakETag, match='Send "5"'):
        require_match(header, 5)
    assert (WeakETag.status, WeakETag.code) == (412, "weak_etag")


@pytest.mark.parametrize("header", ['"5"', 'W/"5"', '"4", W/"5"', "*", '"a,b","5"'])
def test_a_client_that_holds_this_version_needs_nothing_more(header: str) -> None:
    assert is_known(header, 5)


@pytest.mark.parametrize("header", [None, "", '"4"', "5", '"a, 5, b"', '"55"'])
def test_a_client_that_holds_another_gets_this_one(header: str | None) -> None:
    assert not is_known(header, 5)


def test_a_version_may_be_a_text() -> None:
    require_match(etag("ab-gzip"), "ab-gzip")
    assert is_known('W/"ab"', "ab")
