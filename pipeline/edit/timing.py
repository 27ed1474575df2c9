"""Exact time: OpenTimelineIO's floats become fractions here, and nowhere is a frame rounded twice.

Which media frames a clip uses, stated once:

    N record frames at speed s play the media time       [start, start + N·|s|)
    and use every media frame that it touches:           floor(start) … ceil(start + N·|s|) − 1

Record frame k covers the media time [start + k·|s|, start + (k+1)·|s|), so at 2× two media frames go by in each. A player
without frame blending shows the first of the two, but an editor who changes to blending, and a vendor who retimes the plate
himself, needs both. So 24 frames at 2× use 0–47, not 0–46; 24 at ½× use 0–11; 25 at 1½× end at 37.5, inside the last frame
of 0–37. Whatever a player shows is among them, and clips cut one after another from one source at one speed leave no frame
unused between them.

`start` is where the source range begins, in media frames, and always the lowest point: hosts write a reversed clip that way.
So a reverse uses the same span, its record frames counted from the far end. A freeze (s = 0) uses floor(start) alone.

The overlaps of transitions and the trims by parents move the ends of the span by their offset · |s|, in exact fractions,
before it is rounded, once. Handles come after, as ceil(handles · |s|) whole media frames on either side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

from pipeline.errors import EditError
from pipeline.rate import FrameRate, RateError

NEAR = Fraction(1, 1000)
"""Frames this near to a whole one are meant to be it: exporters add and rescale in floats (20.000000000000004)."""
_SPEED_DENOMINATOR = 1000
_SPEED_TOLERANCE = 1e-7  # above the rounding of float32 and of ten printed digits, far below one frame in a reel


def exact(value: float, what: str) -> Fraction:
    """A count of frames as a fraction, whole when it is meant to be. Raises: EditError (not a finite number)."""
    if not math.isfinite(value) or abs(value) > 1e12:
        raise EditError(f"{what}: {value} is not a time", "the timeline is damaged: export it again")
    out = Fraction(value)
    return Fraction(round(out)) if abs(out - round(out)) < NEAR else out


def rate_of(value: float, what: str) -> Fraction:
    """A rate as the exact fraction it stands for. Raises: EditError (zero, negative, no number, above 1000)."""
    try:
        return _snapped(value)
    except (RateError, ValueError, OverflowError):
        raise EditError(f"{what}: {value} is not a frame rate", "the timeline is damaged: export it again") from None


@lru_cache(maxsize=256)
def _snapped(value: float) -> Fraction:
    return FrameRate.of(value).value


def seconds(time: Any, what: str) -> Fraction:
    """An `opentime.RationalTime` in seconds. Raises: EditError."""
    return exact(time.value, what) / rate_of(time.rate, what)


def frames(time: Any, rate: float, what: str) -> Fraction:
    """An `opentime.RationalTime` in frames at `rate`: its own value when both mean one rate, else rescaled by seconds.

    Rescaled with the rates *as written*, since that is what the exporter did: frame 948855 at 25 comes back from
    909990.8339241028 at 23.976024627685547, and would be 948854.97 from the 24000/1001 that this stands for.
    Raises: EditError.
    """
    value = exact(time.value, what)
    if rate_of(time.rate, what) == rate_of(rate, what):
        return value
    return exact_near(value * Fraction(rate) / Fraction(time.rate))


def exact_near(value: Fraction) -> Fraction:
    """`value`, whole when it is within `NEAR` of a whole number."""
    return Fraction(round(value)) if abs(value - round(value)) < NEAR else value


def nominal(rate: Fraction) -> int:
    """The rate that timecode counts in: 24 for 24000/1001."""
    return max(1, round(rate))


def exact_speed(scalar: float, what: str) -> Fraction:
    """A time scalar as the fraction it was made from: 0.6666666666666666 is 2/3. Raises: EditError."""
    if not math.isfinite(scalar) or abs(scalar) > 1e6:
        raise EditError(f"{what}: {scalar} is not a speed", "the timeline is damaged: export it again")
    value = Fraction(scalar)
    simple = value.limit_denominator(_SPEED_DENOMINATOR)
    return simple if abs(simple - value) <= _SPEED_TOLERANCE * max(Fraction(1), abs(value)) else value


@dataclass(frozen=True, slots=True)
class TimeMap:
    """Where an item's media stands at each moment of the item's own record time, by the rule above.

    `start`: the lowest media position. `count`: length in record time. `step`: media time that goes by in one unit of record
    time, never negative. Both times in frames, or both in seconds.
    """

    start: Fraction
    count: Fraction
    step: Fraction
    reverse: bool = False

    @property
    def slope(self) -> Fraction:
        """`step`, negative in reverse."""
        return -self.step if self.reverse else self.step

    def position(self, record: Fraction) -> Fraction:
        """The media position at a record time, which may lie outside 0 … count, for overlaps."""
        return self.start + (self.count - record if self.reverse else record) * self.step

    def span(self, begin: Fraction, end: Fraction) -> tuple[Fraction, Fraction]:
        """The media time that plays from one record time to another, its lower end first."""
        low, high = sorted((self.position(begin), self.position(end)))
        return low, high


def touched(low: Fraction, high: Fraction) -> tuple[int, int]:
    """The first and last of the frames [i, i+1) that the time [low, high) touches; the one at `low` when it has no length."""
    first = math.floor(exact_near(low))
    return first, max(first, math.ceil(exact_near(high)) - 1)
