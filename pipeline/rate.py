"""Frame rates as exact fractions. Exporters write 23.976 or a float32 of it; both mean 24000/1001."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction

from pipeline.errors import PipelineError

_NTSC = tuple(Fraction(n * 1000, 1001) for n in (24, 30, 48, 60, 120))
_TEXT = re.compile(r"\d{1,9}(\.\d{1,12})?|\d{1,9}/0*[1-9]\d{0,8}")
_WHOLE_TOLERANCE = 1e-3
_NTSC_TOLERANCE = 6e-3  # 23.98 is off by 0.004, 59.94 by 0.00006


class RateError(PipelineError, ValueError):
    """A number or text that can't be a frame rate."""


@dataclass(frozen=True, slots=True, order=True)
class FrameRate:
    """Frames a second as an exact fraction."""

    value: Fraction

    def __post_init__(self) -> None:
        if not 0 < self.value <= 1000:
            raise RateError(f"{self.value} is not a frame rate", "rates lie above 0 and up to 1000 frames a second")

    @classmethod
    def of(cls, rate: float | int | Fraction | str) -> FrameRate:
        """Snap a number to the rate it stands for: whole rates and the 1000/1001 family.

        A text may be `24`, `23.976` or `24000/1001`. A rate near neither is kept as its simplest fraction.
        Raises: RateError.
        """
        if isinstance(rate, str):
            # Fraction would read 1e99999999 too, and not come back for a long time.
            if not _TEXT.fullmatch(rate.strip()):
                raise RateError(f"{rate[:40]!r} is not a frame rate", "write 24, 23.976 or 24000/1001")
            rate = Fraction(rate.strip())
        if isinstance(rate, float) and not math.isfinite(rate):
            raise RateError(f"{rate} is not a frame rate")
        exact = Fraction(rate)
        for known in _NTSC:
            if abs(exact - known) < _NTSC_TOLERANCE:
                return cls(known)
        if round(exact) > 0 and abs(exact - round(exact)) < _WHOLE_TOLERANCE:
            return cls(Fraction(round(exact)))
        return cls(exact.limit_denominator(1001))

    def __str__(self) -> str:
        return str(self.value)

    def __float__(self) -> float:
        return float(self.value)
