"""Frame numbers as artists write them: `1001-1048x2,1060`, negative numbers included."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pipeline.errors import PipelineError

_PART = re.compile(r"\s*(-?\d+)(?:-(-?\d+)(?:x(\d+))?)?\s*")
MOST_FRAMES = 1_000_000
"""A range above this is a typing mistake or an attack, never a shot."""


class FrameRangeError(PipelineError, ValueError):
    """A text that isn't a frame range."""


@dataclass(frozen=True, slots=True)
class FrameRange:
    """A set of whole frame numbers, sorted, each once. Ends are inclusive everywhere in this product."""

    frames: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if any(b <= a for a, b in zip(self.frames, self.frames[1:], strict=False)):
            raise FrameRangeError("frames must rise and be unique", "use FrameRange.of(...)")

    @classmethod
    def of(cls, frames: Iterable[int]) -> FrameRange:
        """The range of any frames, in any order, doubles dropped."""
        return cls(tuple(sorted(set(frames))))

    @classmethod
    def span(cls, first: int, last: int) -> FrameRange:
        """Every frame from `first` to `last`, both included; empty when last < first."""
        if last - first >= MOST_FRAMES:
            raise FrameRangeError(f"{first}-{last} is more than {MOST_FRAMES} frames")
        return cls(tuple(range(first, last + 1)))

    @classmethod
    def parse(cls, text: str) -> FrameRange:
        """Read the text form, commas between parts.

        Raises: FrameRangeError (not a range, a step of 0, an end before its start, too many frames).
        """
        found: set[int] = set()
        if not text.strip():
            return cls()
        for part in text.split(","):
            match = _PART.fullmatch(part)
            if match is None:
                raise FrameRangeError(
                    f"{part.strip()!r} is not a frame range", "write it as 1001-1048, 1001-1048x2 or 1001,1005"
                )
            first = int(match[1])
            last = first if match[2] is None else int(match[2])
            step = 1 if match[3] is None else int(match[3])
            if step == 0:
                raise FrameRangeError(f"{part.strip()!r} has a step of 0")
            if last < first:
                raise FrameRangeError(f"{part.strip()!r} ends before it starts", f"write {last}-{first}")
            if (last - first) // step + len(found) >= MOST_FRAMES:
                raise FrameRangeError(f"{part.strip()!r} is more than {MOST_FRAMES} frames")
            found.update(range(first, last + 1, step))
        return cls(tuple(sorted(found)))

    def __str__(self) -> str:
        parts: list[str] = []
        frames = self.frames
        i = 0
        while i < len(frames):
            j = i
            step = frames[i + 1] - frames[i] if i + 1 < len(frames) else 1
            while j + 1 < len(frames) and frames[j + 1] - frames[j] == step:
                j += 1
            # Two frames apart by more than one read better, and parse the same, as two single frames.
            if j - i < 2 and step != 1:
                j = i
            if j == i:
                parts.append(str(frames[i]))
            else:
                parts.append(f"{frames[i]}-{frames[j]}" + ("" if step == 1 else f"x{step}"))
            i = j + 1
        return ",".join(parts)

    def __iter__(self) -> Iterator[int]:
        return iter(self.frames)

    def __len__(self) -> int:
        return len(self.frames)

    def __contains__(self, frame: object) -> bool:
        return frame in self.as_set()

    def as_set(self) -> frozenset[int]:
        """The frames as a set, for many look-ups."""
        return frozenset(self.frames)

    @property
    def first(self) -> int:
        """The lowest frame. Raises: FrameRangeError on an empty range."""
        if not self.frames:
            raise FrameRangeError("an empty range has no first frame")
        return self.frames[0]

    @property
    def last(self) -> int:
        """The highest frame. Raises: FrameRangeError on an empty range."""
        if not self.frames:
            raise FrameRangeError("an empty range has no last frame")
        return self.frames[-1]

    def runs(self) -> list[tuple[int, int]]:
        """Unbroken runs as (first, last), inclusive."""
        out: list[tuple[int, int]] = []
        for frame in self.frames:
            if out and out[-1][1] == frame - 1:
                out[-1] = (out[-1][0], frame)
            else:
                out.append((frame, frame))
        return out

    def __or__(self, other: FrameRange) -> FrameRange:
        return FrameRange.of((*self.frames, *other.frames))

    def __and__(self, other: FrameRange) -> FrameRange:
        kept = other.as_set()
        return FrameRange(tuple(f for f in self.frames if f in kept))

    def __sub__(self, other: FrameRange) -> FrameRange:
        gone = other.as_set()
        return FrameRange(tuple(f for f in self.frames if f not in gone))
