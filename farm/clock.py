"""The dispatcher's clock: the only one whose time counts."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds since 1970."""


def steady_clock() -> Clock:
    """A clock that starts at the machine's time and from then on runs evenly.

    Someone who sets the machine's date back a day, or a time server that jumps, must neither end every lease at once
    nor hold every retry for a day.
    """
    offset = time.time() - time.monotonic()
    return lambda: time.monotonic() + offset
