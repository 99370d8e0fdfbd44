"""The clock of the part that signs is wrong: a little is nobody's business, a lot is refused with a reason."""

from __future__ import annotations

import pytest

from gatehouse_e2e.compose import Compose
from gatehouse_e2e.people import People
from gatehouse_e2e.waiting import until

pytestmark = [pytest.mark.breaks, pytest.mark.full]

METRICS = (
    "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9000/metrics', timeout=5).read().decode())"
)


@pytest.mark.parametrize("shift", [-120, -30, -2, 2, 29, 120])
def test_a_clock_that_is_wrong_is_invisible_up_to_the_leeway_and_said_beyond(
    shift: int, parts: Compose, people: People
) -> None:
    with parts.overlaid("compose.skew.yaml", CLOCK_SHIFT=str(shift)):
        person = people.signed_in()
        api = people.api(person)
        answer = api.http.get("/v1/users/me", headers=person.tokens.bearer)
        if shift <= 29:  # behind, a token only ends earlier
            assert answer.status_code == 200, answer.text
            assert api.refresh(person.tokens.refresh_token).access_token
        else:
            assert (answer.status_code, answer.json()["code"]) == (401, "token_not_yet_valid")
            refusals = parts.execute("gateway", "python", "-c", METRICS)
            assert 'code="token_not_yet_valid"' in refusals
        assert parts.running("gateway")
        assert parts.running("auth-service")
    again = people.signed_in()
    until(lambda: people.api(again).me(again.tokens).is_success, 10, "all is well with the right clock")
