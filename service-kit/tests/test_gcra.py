"""GCRA: an allowance is exact to the one, whatever the clock says."""

from hypothesis import given
from hypothesis import strategies as st

from service_kit import gcra

CLOCKS = st.integers(0, 2**63)
INTERVALS = st.integers(1, 10**13)
BURSTS = st.integers(1, 50)


class Allowance:
    def __init__(self, interval: int, burst: int) -> None:
        self.interval, self.burst, self.tat = interval, burst, 0

    def spend(self, now: int) -> int:
        """0 if admitted, else the wait."""
        tat = gcra.spend(self.tat, now, self.interval)
        if wait := gcra.wait(tat, now, self.interval, self.burst):
            return wait
        self.tat = tat
        return 0


@given(CLOCKS, INTERVALS, BURSTS)
def test_exactly_the_burst_is_admitted_at_once(now: int, interval: int, burst: int) -> None:
    allowance = Allowance(interval, burst)
    assert [allowance.spend(now) for _ in range(burst)] == [0] * burst
    assert allowance.spend(now) == interval
    assert gcra.remaining(allowance.tat, now, interval, burst) == 0


@given(CLOCKS, INTERVALS, BURSTS, st.integers(1, 5))
def test_one_more_is_admitted_each_interval_and_not_a_moment_before(
    now: int, interval: int, burst: int, later: int
) -> None:
    allowance = Allowance(interval, burst)
    while not allowance.spend(now):
        pass
    for number in range(1, later + 1):
        assert allowance.spend(now + number * interval - 1) == 1
        assert allowance.spend(now + number * interval) == 0


@given(INTERVALS, BURSTS, st.lists(st.integers(0, 10**13), max_size=200))
def test_no_times_admit_more_than_the_rate_and_the_burst(
    interval: int, burst: int, pauses: list[int]
) -> None:
    allowance, now, admitted = Allowance(interval, burst), 0, 0
    for pause in pauses:
        now += pause
        admitted += not allowance.spend(now)
    assert admitted <= burst + now // interval


@given(CLOCKS, INTERVALS, BURSTS, st.integers(0, 50))
def test_what_is_refunded_may_be_spent_again_and_nothing_more(
    now: int, interval: int, burst: int, refunded: int
) -> None:
    allowance = Allowance(interval, burst)
    while not allowance.spend(now):
        pass
    allowance.tat = gcra.refund(allowance.tat, now, refunded * interval)
    assert gcra.remaining(allowance.tat, now, interval, burst) == min(burst, refunded)
