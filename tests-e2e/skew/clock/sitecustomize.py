"""A clock that is wrong by CLOCK_SHIFT seconds: mounted into one part's container and found through PYTHONPATH."""

import os
import time

_shift = float(os.environ.get("CLOCK_SHIFT", "0"))
_time, _time_ns = time.time, time.time_ns

time.time = lambda: _time() + _shift
time.time_ns = lambda: _time_ns() + int(_shift * 1_000_000_000)
