"""Reading answers byte by byte, and a raw connection against a local server."""

from __future__ import annotations

import pytest

from gatehouse_e2e.wire import Answer, AnswerReader, BadAnswer, RawClient, Target, request_bytes

from .conftest import answer, http_server

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
CHUNKED = (
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nDigest: 1\r\n\r\n"
)


def feed_bytewise(data: bytes, method: str = "GET") -> tuple[Answer | None, AnswerReader]:
    reader = AnswerReader(method)
    for index in range(len(data)):
        if found := reader.feed(data[index : index + 1]):
            return found, reader
    return None, reader


def test_a_length_ends_an_answer_and_what_follows_is_surplus() -> None:
    reader = AnswerReader("GET")
    found = reader.feed(PLAIN + b"HTTP/1.1 200")
    assert found is not None
    assert (found.status, found.body, reader.surplus) == (200, b"hi", b"HTTP/1.1 200")


def test_chunks_and_interim_answers_are_read_wherever_they_are_cut() -> None:
    found, reader = feed_bytewise(CHUNKED)
    assert found is not None
    assert found.body == b"abcd"
    assert [interim.status for interim in reader.interim] == [103]


def test_an_answer_to_head_has_no_body() -> None:
    found, _ = feed_bytewise(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", "HEAD")
    assert found is not None
    assert found.body == b""


def test_without_length_the_end_of_the_stream_ends_the_answer() -> None:
    found, reader = feed_bytewise(b"HTTP/1.1 200 OK\r\n\r\nall of it")
    assert found is None
    assert reader.end().body == b"all of it"


@pytest.mark.parametrize("cut", [b"HTTP/1.1 200 OK\r\n", PLAIN[:-1], CHUNKED[:-9]])
def test_a_truncated_answer_is_no_answer(cut: bytes) -> None:
    found, reader = feed_bytewise(cut)
    assert found is None
    with pytest.raises(BadAnswer):
        reader.end()


def test_what_is_not_http_is_refused() -> None:
    with pytest.raises(BadAnswer):
        AnswerReader("GET").feed(b"SSH-2.0-OpenSSH\r\n\r\n")


def test_a_raw_client_pipelines_and_sees_the_end() -> None:
    def say(first: str, headers: dict[str, str], body: bytes) -> bytes | None:
        return None if "/bye" in first else answer(200, {"line": first})

    with http_server(say) as url, RawClient(url) as raw:
        authority = raw.target.authority
        raw.send(request_bytes("GET", "/1", authority) + request_bytes("GET", "/2", authority))
        assert [raw.answer().json()["line"] for _ in "12"] == ["GET /1 HTTP/1.1", "GET /2 HTTP/1.1"]
        raw.send(request_bytes("GET", "/bye", authority))
        assert raw.end_of_stream()


def test_a_base_url_is_checked() -> None:
    assert Target.of("https://gatehouse.example") == Target("gatehouse.example", 443, True)
    with pytest.raises(ValueError, match="not a base URL"):
        Target.of("gatehouse.example:80")
