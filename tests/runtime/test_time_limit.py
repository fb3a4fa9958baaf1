"""Limits of time: of the clock, and of the process's own CPU."""

import time

import pytest

from crysjepa.runtime.time_limit import TimeLimitExceeded, time_limit


def test_the_clock_stops_what_sleeps():
    with pytest.raises(TimeLimitExceeded), time_limit(0.02):
        time.sleep(10)


def test_cpu_time_is_not_spent_asleep():
    with time_limit(0.05, of_cpu=True):
        time.sleep(0.2)
    with pytest.raises(TimeLimitExceeded), time_limit(0.02, of_cpu=True):
        while True:
            pass
    time.sleep(0.01)  # the limit is gone with its block
