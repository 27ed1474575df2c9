"""Where the lines, dots and bars of a plot lie: numbers in, places in percent out. Templates draw them as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
_STEPS_OF_TIME = tuple(
    unit * number
    for unit, numbers in ((MINUTE, (1, 2, 5, 10, 30)), (HOUR, (1, 2, 6, 12)), (DAY, (1, 2, 7, 14, 30, 91, 182, 365)))
    for number in numbers
)
_MOST_TICKS = 6
MOST_BARS = 92
"""A bar a day up to so many; then a bar for several days."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis: `at` in percent from the left, or from the top."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Axis:
    """A stretch of values over 0 … 100 %. `flip`: the lowest lies at 100, as on a screen."""

    low: float
    high: float
    ticks: tuple[Tick, ...]
    flip: bool = False

    def place(self, value: float) -> float:
        """In percent; what lies outside is put on the edge."""
        return _place(value, self.low, self.high, self.flip)


def _place(value: float, low: float, high: float, flip: bool) -> float:
    part = (value - low) / (high - low) if high > low else 0.5
    part = min(max(part, 0.0), 1.0)
    return round(100 * (1 - part if flip else part), 3)


def of_values(values: Sequence[float], *, from_zero: bool = False) -> Axis:
    """A vertical axis with round marks that holds all values with a little air; only finite ones count."""
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = (0.0 if from_zero else min(finite)), max(finite)
    if high <= low:
        spread = abs(high) * 0.1 or 1.0
        low, high = (low if from_zero else low - spread), high + spread
    step = _round_step((high - low) / 4)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    # Rounded: 95 steps of 0.01 are a little more than 0.95 otherwise.
    low = round(math.floor(low / step + 1e-9) * step, digits + 1)
    high = round(math.ceil(high / step - 1e-9) * step, digits + 1)
    count = round((high - low) / step)
    marks = [low + i * step for i in range(count + 1)]
    ticks = tuple(Tick(_place(mark, low, high, True), f"{mark:.{digits}f}") for mark in marks)
    return Axis(low, high, ticks, flip=True)


def _round_step(about: float) -> float:
    """1, 2 or 5 times a power of ten, at least `about`."""
    power = 10.0 ** math.floor(math.log10(about))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= about * (1 - 1e-9))


def of_times(times: Sequence[float]) -> Axis:
    """A horizontal axis of seconds since 1970, marked in UTC, with a little air on either side."""
    low, high = min(times), max(times)
    air = max((high - low) * 0.04, 30.0)
    low, high = low - air, high + air
    step = next((s for s in _STEPS_OF_TIME if (high - low) / s <= _MOST_TICKS), None)
    if step is None:
        step = 365 * DAY * math.ceil((high - low) / (_MOST_TICKS * 365 * DAY))
    form = "%H:%M" if step < DAY and high - low < DAY else "%d %b %H:%M" if step < DAY else "%d %b"
    if high - low > 365 * DAY:
        form = "%b %Y"
    first = math.ceil(low / step)
    marks = [n * step for n in range(first, math.floor(high / step) + 1)]
    ticks = tuple(Tick(_place(m, low, high, False), datetime.fromtimestamp(m, UTC).strftime(form)) for m in marks)
    return Axis(low, high, ticks)


def moment(at: float) -> str:
    """`2026-11-22 17:40 UTC`."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def steps(points: Sequence[tuple[float, float]], *, until: float) -> str:
    """SVG points, over 0 … 1000 by 0 … 100, of a line that keeps each value until the next. Points are in percent."""
    found: list[tuple[float, float]] = []
    for x, y in points:
        if found:
            found.append((x, found[-1][1]))
        found.append((x, y))
    if found:
        found.append((until, found[-1][1]))
    return " ".join(f"{10 * x:.2f},{y:.2f}" for x, y in found)
