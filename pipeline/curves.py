"""A number over frames: keyed by hand, or driven by sound. Any float parameter can have one in place of its value."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import ParameterError

MOST_KEYS = 10_000


class _Text(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class KeyedCurve(_Text):
    """Values at frames; before the first and behind the last key the value holds.

    Between two keys a and b, with u from 0 to 1: `linear` a + u (b − a), `smooth` the same with 3u² − 2u³ for u, `hold` a.
    """

    keys: dict[int, float] = Field(min_length=1, max_length=MOST_KEYS)
    interpolation: Literal["linear", "smooth", "hold"] = "linear"

    @cached_property
    def in_order(self) -> list[int]:
        """The keyed frames, rising."""
        return sorted(self.keys)

    def at(self, frame: int) -> float:
        """The value on a frame."""
        frames = self.in_order
        place = bisect_right(frames, frame)
        if place == 0:
            return self.keys[frames[0]]
        before = frames[place - 1]
        if frame == before or place == len(frames) or self.interpolation == "hold":
            return self.keys[before]
        u = (frame - before) / (frames[place] - before)
        if self.interpolation == "smooth":
            u = u * u * (3 - 2 * u)
        return self.keys[before] + u * (self.keys[frames[place]] - self.keys[before])


class AudioCurve(_Text):
    """A sound file drives the value from `low` (silence) to `high` (the loudest frame, or a beat).

    `measure`: `amplitude` is the root mean square of a frame's samples over the loudest frame's; `beat` jumps to 1 on an
    onset and falls off within `decay_s`. The delivered range's first frame hears the file at `offset_s`.
    """

    audio: str = Field(min_length=1, max_length=4096)
    measure: Literal["amplitude", "beat"] = "amplitude"
    low: float = 0.0
    high: float = 1.0
    offset_s: float = Field(0.0, ge=0)
    decay_s: float = Field(0.25, gt=0, le=10)

    def of(self, envelope: Mapping[int, float]) -> dict[int, float]:
        """Frame → value, from frame → loudness 0 … 1."""
        return {frame: self.low + (self.high - self.low) * level for frame, level in envelope.items()}


Curve = KeyedCurve | AudioCurve


def read_curve(value: Mapping[str, Any]) -> Curve:
    """The curve of its JSON: `{"keys": {"1001": 0.2, …}}` or `{"audio": "drums.wav", …}`. Raises: ParameterError."""
    kind: type[Curve] = AudioCurve if "audio" in value else KeyedCurve
    try:
        return kind.model_validate(dict(value))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ParameterError(
            f"the curve's {place}: {first['msg']}" if place else f"the curve: {first['msg']}",
            'write {"keys": {"1001": 0, "1024": 1}}, or {"audio": "drums.wav", "low": 0, "high": 1}',
        ) from error


def value_range(curve: Curve) -> tuple[float, float]:
    """The lowest and highest value that a curve can take."""
    values = curve.keys.values() if isinstance(curve, KeyedCurve) else (curve.low, curve.high)
    return min(values), max(values)
