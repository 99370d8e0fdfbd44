"""What RateLimit shows, whatever the clock does between requests and whatever the common store grants meanwhile."""

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.rate_limit.leases import SECOND, Grant, LimitLease
from gateway.routing.routes import Limit

LIMITS = st.builds(
    Limit,
    rate=st.integers(1, 50),
    per_seconds=st.sampled_from([0.1, 1.0, 7.5, 60.0, 3600.0]),
    burst=st.none() | st.integers(1, 200),
)
# How long nobody asks, in shares of the window; then requests, or an answer of the store, or none.
STEPS = st.lists(
    st.tuples(
        st.floats(0, 0.4),
        st.sampled_from(["request", "request", "request", "grant", "alone"]),
        st.integers(0, 200),
        st.integers(1, 8),
    ),
    max_size=60,
)


@given(LIMITS, STEPS, st.integers(0, 10**15))
@settings(deadline=None)
def test_what_is_left_is_never_more_than_the_quota_and_never_rises_within_a_window(
    limit: Limit, steps: list[tuple[float, str, int, int]], now: int
) -> None:
    lease = LimitLease("k", limit)
    told: list[tuple[int, int]] = []  # when the window ends that was told of, and what was left
    for share, what, number, workers in steps:
        now += int(share * limit.per_seconds * SECOND)
        if what == "request":
            admitted = lease.spend(now, workers)
            left, seconds = lease.show(now, admitted)
            assert 0 <= left <= limit.rate
            assert 1 <= seconds <= limit.per_seconds + 1
            assert admitted or left == 0
            # The fields are in whole seconds, so the last one of a window may reach into the next.
            assert all(left <= earlier for ends, earlier in told if now < ends - SECOND)
            told.append((now + seconds * SECOND, left))
        elif what == "grant":
            claim = lease.claim(workers)
            lease.take(
                claim, Grant(min(number, claim.wanted), int(number * limit.per_seconds * SECOND / 200)), now
            )
        else:
            lease.go_alone()


def test_what_was_shown_is_remembered_until_its_window_ends() -> None:
    """The allowance itself is whole again long before."""
    lease = LimitLease("k", Limit(rate=10, per_seconds=60))
    assert [lease.show(0, lease.spend(0, 1)) for _ in range(3)] == [(9, 60), (8, 60), (7, 60)]
    lease.take(lease.claim(1), Grant(0, 0), 30 * SECOND)
    lease.take(lease.claim(1), Grant(0, 0), 31 * SECOND)
    assert lease.idle(31 * SECOND)
    assert not lease.over(31 * SECOND)
    assert lease.show(31 * SECOND, lease.spend(31 * SECOND, 1)) == (7, 29)
    lease.take(lease.claim(1), Grant(0, 0), 50 * SECOND)
    lease.take(lease.claim(1), Grant(0, 0), 51 * SECOND)
    assert lease.over(60 * SECOND)
    assert lease.show(60 * SECOND, lease.spend(60 * SECOND, 1)) == (9, 60)
