"""The generic cell rate algorithm (ITU-T I.371) as a virtual schedule: one integer an allowance, its theoretical arrival.

Times and intervals are integers of one unit, of the caller's choice. With floats `(now + n * interval) - now` rounds
by how late it is, and so an allowance had one more or one less.
"""


def arrive(arrival: int, now: int, interval: int) -> int:
    """The theoretical arrival once one more is admitted; the caller keeps it unless it is later than `latest`."""
    return (arrival if arrival > now else now) + interval


def latest(now: int, interval: int, burst: int) -> int:
    """The latest theoretical arrival that is admitted now: `burst` are at once, and one more each interval."""
    return now + burst * interval


def wait(arrival: int, now: int, interval: int, burst: int) -> int:
    """How long until that one may be admitted."""
    return max(0, arrival - latest(now, interval, burst))


def left(arrival: int, now: int, interval: int, burst: int) -> int:
    """How many more may be admitted now; negative for one that may not."""
    return burst - -((now - arrival) // interval)
