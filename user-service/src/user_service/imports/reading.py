"""A file of JSON values, one at a time with its line: one a line (JSONL), or one array (Django's dumpdata).

A file may be larger than memory; a value may not be larger than MOST_CHARACTERS.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TextIO

PIECE: Final = 256 * 1024
MOST_CHARACTERS: Final = 1024 * 1024
SPACE: Final = " \t\r\n"


@dataclass(frozen=True, slots=True)
class Row:
    """`text` is the value as it stands in the file, empty if it is too long; `value` is None if it is no JSON.

    Django writes a whole dump on one line: there only `number`, from 1, tells rows apart.
    """

    number: int
    line: int
    text: str
    value: Any


class BrokenFile(Exception):
    """Inside an array nothing after a fault can be found again; rows before it were given."""

    def __init__(self, line: int) -> None:
        super().__init__(f"line {line}: the array is broken here; nothing after this line was read")


def rows(file: TextIO) -> Iterator[Row]:
    start = file.read(1)
    line = 1
    while start and start in SPACE + "\ufeff":
        line += start == "\n"
        start = file.read(1)
    return _from_array(file, line) if start == "[" else _from_lines(file, start, line)


def _from_lines(file: TextIO, start: str, line: int) -> Iterator[Row]:
    number = 0
    while text := start + file.readline(MOST_CHARACTERS):
        start = ""
        number += bool(text.strip())
        if len(text) >= MOST_CHARACTERS and not text.endswith("\n"):
            yield Row(number, line, "", None)
            _skip_line(file)
        elif text := text.strip():
            yield Row(number, line, text, _parsed(text))
        line += 1


def _skip_line(file: TextIO) -> None:
    while (piece := file.readline(PIECE)) and not piece.endswith("\n"):
        pass


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _from_array(file: TextIO, line: int) -> Iterator[Row]:
    decoder = json.JSONDecoder()
    text, at, complete, number = "", 0, False, 0
    while True:
        begin = _skip(text, at, SPACE + ",")
        line += text.count("\n", at, begin)
        at = begin
        if text[at : at + 1] == "]":
            return
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            # Perhaps only the rest is missing.
            if complete or len(text) - at > MOST_CHARACTERS:
                raise BrokenFile(line) from error
            more = file.read(PIECE)
            text, at, complete = text[at:] + more, 0, not more
            continue
        number += 1
        yield Row(number, line, text[at:end], value)
        line += text.count("\n", at, end)
        at = end


def _skip(text: str, at: int, characters: str) -> int:
    while at < len(text) and text[at] in characters:
        at += 1
    return at
