"""`make refresh-check URL=`: the refresh contract, tried out on any running system, as a report."""

import argparse
import asyncio
import secrets
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx

GRACE = 10  # seconds for which a successor is handed out again
SLACK = 1.5

Check = Callable[["System"], Awaitable[None]]


class Broken(Exception):
    """What the system did instead, in words."""


class Unusable(Exception):
    """The checks cannot be made at all."""


@dataclass(frozen=True, slots=True)
class Pair:
    access: str
    refresh: str


class System:
    """The one under test, seen from outside, and a person registered for this alone."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._form = {"username": f"refresh-check-{secrets.token_hex(8)}@example.com"}
        self._form["password"] = secrets.token_urlsafe(18)

    async def register(self) -> None:
        body = {"email": self._form["username"], "name": "Refresh check", "password": self._form["password"]}
        response = await _patiently(lambda: self._http.post("/v1/users", json=body))
        # A conflict is our own doing: the attempt before was answered too late.
        if response.status_code == httpx.codes.CONFLICT:
            return
        if response.status_code != httpx.codes.CREATED:
            raise Unusable(f"registering a person was answered {response.status_code} {_code(response)}")

    async def sign_in(self) -> Pair:
        return await self._pair({"grant_type": "password", **self._form})

    async def refresh(self, token: str) -> httpx.Response:
        return await _patiently(lambda: self.refresh_once(token))

    async def refresh_once(self, token: str) -> httpx.Response:
        form = {"grant_type": "refresh_token", "refresh_token": token}
        return await self._http.post("/auth/token", data=form)

    async def renewed(self, token: str) -> Pair:
        return await self._pair({"grant_type": "refresh_token", "refresh_token": token})

    async def refused(self, token: str, code: str) -> None:
        response = await self.refresh(token)
        if (response.status_code, _code(response)) != (httpx.codes.BAD_REQUEST, code):
            raise Broken(f"expected 400 {code}, got {response.status_code} {_code(response)}")

    async def revoke(self, token: str) -> None:
        response = await _patiently(lambda: self._http.post("/auth/revoke", data={"token": token}))
        expect(response.status_code == httpx.codes.OK, f"signing out was answered {response.status_code}")

    async def access_ends(self, token: str, within: float = 2.0) -> None:
        deadline = time.monotonic() + within
        headers = {"authorization": f"Bearer {token}"}
        while (
            response := await self._http.get("/v1/users/me", headers=headers)
        ).status_code == httpx.codes.OK:
            expect(time.monotonic() < deadline, f"the access token still works after {within:.0f} s")
            await asyncio.sleep(0.05)
        expect(
            _code(response) == "session_revoked", f"it is refused with {_code(response)}, not session_revoked"
        )

    async def _pair(self, form: dict[str, str]) -> Pair:
        response = await _patiently(lambda: self._http.post("/auth/token", data=form))
        if response.status_code != httpx.codes.OK:
            raise Broken(f"expected new tokens, got {response.status_code} {_code(response)}")
        try:
            return Pair(response.json()["access_token"], response.json()["refresh_token"])
        except (ValueError, KeyError, TypeError):
            raise Broken("the answer has no access_token and refresh_token") from None


async def every_refresh_gives_a_new_refresh_token(system: System) -> None:
    first = await system.sign_in()
    second = await system.renewed(first.refresh)
    expect(second.refresh != first.refresh, "the same token came back")
    await system.renewed(second.refresh)


async def a_lost_answer_asked_for_again_at_once_gives_the_same_successor(system: System) -> None:
    first = await system.sign_in()
    second = await system.renewed(first.refresh)
    again = await system.renewed(first.refresh)
    expect(again.refresh == second.refresh, "another token came back: the chain has forked")
    await system.renewed(second.refresh)


async def fifty_refreshes_at_once_make_one_live_token(system: System) -> None:
    first = await system.sign_in()
    responses = await asyncio.gather(*(system.refresh_once(first.refresh) for _ in range(50)))
    statuses = sorted({response.status_code for response in responses})
    expect(statuses == [200], f"the answers were {statuses}")
    tokens = {response.json()["refresh_token"] for response in responses}
    expect(len(tokens) == 1, f"{len(tokens)} different successors were handed out")
    await system.renewed(tokens.pop())


async def an_older_token_is_seen_as_reuse_and_ends_the_session(system: System) -> None:
    first = await system.sign_in()
    second = await system.renewed(first.refresh)
    third = await system.renewed(second.refresh)
    await system.refused(first.refresh, "refresh_token_reused")
    await system.refused(third.refresh, "session_ended")
    await system.access_ends(third.access)


async def a_late_retry_of_a_lost_answer_keeps_the_session_alive(system: System) -> None:
    first = await system.sign_in()
    await system.renewed(first.refresh)  # this answer is lost
    await asyncio.sleep(GRACE + SLACK)
    retried = await system.renewed(first.refresh)
    await system.renewed(retried.refresh)


async def an_answer_that_a_late_retry_replaced_is_seen_as_reuse(system: System) -> None:
    first = await system.sign_in()
    replaced = await system.renewed(first.refresh)
    await asyncio.sleep(GRACE + SLACK)
    retried = await system.renewed(first.refresh)
    expect(retried.refresh != replaced.refresh, "the late retry got the replaced token again")
    await system.refused(replaced.refresh, "refresh_token_reused")
    await system.refused(retried.refresh, "session_ended")


async def replays_do_not_stretch_the_time_of_a_successor(system: System) -> None:
    first = await system.sign_in()
    second = await system.renewed(first.refresh)
    began = time.monotonic()
    while time.monotonic() < began + GRACE - 2 * SLACK:
        await asyncio.sleep(GRACE / 4)
        expect((await system.renewed(first.refresh)).refresh == second.refresh, "a replay got another token")
    await asyncio.sleep(began + GRACE + SLACK - time.monotonic())
    expect((await system.renewed(first.refresh)).refresh != second.refresh, "replays have moved the clock")


async def two_holders_of_one_token_are_found_out(system: System) -> None:
    stolen = owners = (await system.sign_in()).refresh
    for _ in range(2):
        owners = (await system.renewed(owners)).refresh
    await system.refused(stolen, "refresh_token_reused")
    await system.refused(owners, "session_ended")


async def a_forged_token_with_a_real_session_id_changes_nothing(system: System) -> None:
    pair = await system.sign_in()
    session = pair.refresh.split(".")[0]
    for generation in ("0", "1", "7"):
        mac = urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
        await system.refused(f"{session}.{generation}.0.{mac}", "refresh_token_invalid")
    await system.renewed(pair.refresh)


async def signing_out_ends_both_tokens(system: System) -> None:
    pair = await system.sign_in()
    await system.revoke(pair.refresh)
    await system.refused(pair.refresh, "session_ended")
    await system.access_ends(pair.access)


async def revoking_the_access_token_ends_the_session_too(system: System) -> None:
    pair = await system.sign_in()
    await system.revoke(pair.access)
    await system.refused(pair.refresh, "session_ended")


async def a_refresh_that_meets_a_sign_out_leaves_no_token_that_works(system: System) -> None:
    for _ in range(5):
        pair = await system.sign_in()
        response, _ = await asyncio.gather(system.refresh(pair.refresh), system.revoke(pair.refresh))
        expect(response.status_code in (200, 400), f"the refresh was answered {response.status_code}")
        if response.status_code == httpx.codes.OK:
            await system.refused(response.json()["refresh_token"], "session_ended")
            await system.access_ends(response.json()["access_token"])
        await system.refused(pair.refresh, "session_ended")


CHECKS: tuple[Check, ...] = (
    every_refresh_gives_a_new_refresh_token,
    a_lost_answer_asked_for_again_at_once_gives_the_same_successor,
    fifty_refreshes_at_once_make_one_live_token,
    an_older_token_is_seen_as_reuse_and_ends_the_session,
    two_holders_of_one_token_are_found_out,
    a_forged_token_with_a_real_session_id_changes_nothing,
    signing_out_ends_both_tokens,
    revoking_the_access_token_ends_the_session_too,
    a_refresh_that_meets_a_sign_out_leaves_no_token_that_works,
)
# Each waits until a successor's ten seconds are over, so they wait side by side.
WAITING: tuple[Check, ...] = (
    a_late_retry_of_a_lost_answer_keeps_the_session_alive,
    an_answer_that_a_late_retry_replaced_is_seen_as_reuse,
    replays_do_not_stretch_the_time_of_a_successor,
)
OUT_OF_REACH = (
    (
        "an idle session expires after 14 days",
        "nobody waits that long; the service's own tests move the time",
    ),
    ("a failing user service or signing ends no session", "from outside nothing can be made to fail"),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="refresh_check.py", description=__doc__)
    parser.add_argument("url", help="where the gateway is, as in http://localhost:8080")
    parser.add_argument("--no-waiting", action="store_true", help=f"skip what takes longer than {GRACE} s")
    options = parser.parse_args()
    try:
        return asyncio.run(report(options.url.rstrip("/"), waiting=not options.no_waiting))
    except (httpx.HTTPError, httpx.InvalidURL, Unusable) as reason:
        print(f"{options.url}: nothing could be checked: {reason or type(reason).__name__}", file=sys.stderr)
        return 2


async def report(url: str, *, waiting: bool) -> int:
    """0 if the contract holds, 1 if it does not."""
    print(f"The refresh contract at {url}\n", flush=True)
    async with httpx.AsyncClient(base_url=url, timeout=20, trust_env=False) as http:
        system = System(http)
        await system.register()
        kept = [await tell(check, system) for check in CHECKS]
        if waiting:
            kept += await asyncio.gather(*(tell(check, system) for check in WAITING))
        else:
            for check in WAITING:
                say("skipped", sentence(check), f"it waits longer than {GRACE} s")
    for text, reason in OUT_OF_REACH:
        say("skipped", text, reason)
    print(f"\n{sum(kept)} of {len(kept)} hold.")
    return 0 if all(kept) else 1


async def tell(check: Check, system: System) -> bool:
    try:
        await check(system)
    except (Broken, httpx.HTTPError) as broken:
        say("FAIL", sentence(check), str(broken) or type(broken).__name__)
        return False
    say("pass", sentence(check))
    return True


def say(verdict: str, text: str, reason: str = "") -> None:
    print(f"  {verdict:8}{text}{f': {reason}' if reason else ''}", flush=True)


def sentence(check: Check) -> str:
    return check.__name__.replace("_", " ")


def expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Broken(otherwise)


async def _patiently(ask: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
    """Asks again while nobody could decide: that ends no session, and is not what is checked here."""
    for _ in range(10):
        response = await ask()
        if not response.is_server_error:
            break
        await asyncio.sleep(1)
    return response


def _code(response: httpx.Response) -> str:
    try:
        return str(response.json()["code"])
    except (ValueError, KeyError, TypeError):
        return "without a code"


if __name__ == "__main__":
    sys.exit(main())
