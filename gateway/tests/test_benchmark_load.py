"""The benchmark's load: when fresh tokens run out, that is said, and no reading is made of it."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any, cast

import pytest
from benchmarks import load
from benchmarks.load import MOST_FRESH, Load, Reading, Spoilt
from benchmarks.targets import PEERS, Target
from benchmarks.tokens import TokenMaker


class Tokens:
    def __init__(self) -> None:
        self.counts: list[int] = []

    def file(self, count: int) -> Path:
        self.counts.append(count)
        return Path("tokens")


class SomeTarget:
    name, port = "nginx", 1


def saturate(monkeypatch: pytest.MonkeyPatch, enough: float) -> list[int]:
    """How many tokens each attempt had, where so many a second are enough."""
    tokens = Tokens()
    reading = Reading(1, 1.0, 1.0, 1.0, 1.0)
    monkeypatch.setattr(load, "_read", lambda *_: (tokens.counts[-1] < 2 * enough, reading))
    loading = Load(cast("TokenMaker", tokens))
    try:
        assert loading.saturate(cast("Target", SomeTarget()), 2, fresh=True) is reading
    finally:
        enough_for_all = tokens.counts
    return enough_for_all


def test_with_too_few_fresh_tokens_it_is_said_and_done_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert saturate(monkeypatch, 20_000) == [10_000, 20_000, 40_000]
    assert "nginx: 10,000 fresh tokens were too few for 2 s: once more" in capsys.readouterr().out


def test_a_run_that_never_has_enough_ends_with_a_word_on_what_was_too_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(Spoilt, match="fresh tokens were too few"):
        saturate(monkeypatch, 2 * MOST_FRESH)


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk sends this load, and there is none here")
async def test_wrk_stops_by_itself_when_its_tokens_run_out(tmp_path: Path) -> None:
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                asked.append(head)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    (tmp_path / "tokens").write_text("".join(f"token{number}\n" for number in range(50)))
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        wrk = await asyncio.create_subprocess_exec(
            *(
                "wrk",
                "--threads",
                "1",
                "--connections",
                "8",
                "--duration",
                "1s",
                "--script",
                PEERS / "load.lua",
            ),
            *(f"http://127.0.0.1:{port}/", "--", tmp_path / "tokens"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await wrk.communicate()
    assert wrk.returncode == 0, output
    said: dict[str, Any] = json.loads(output.splitlines()[-1])
    assert said["ran_out"], output
    # wrk takes the first for itself, to see what the script makes.
    assert {b"token%d\r\n" % number for number in range(1, 50)} <= {
        part for head in asked for part in [head.split(b"Bearer ")[1].partition(b"\n")[0] + b"\n"]
    }
