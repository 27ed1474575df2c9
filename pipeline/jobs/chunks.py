"""How a shot's frames are cut into chunks: each frame written once, no chunk across a gap or a cut."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import overload

from pipeline.errors import PipelineError
from pipeline.frames import FrameRange


class ChunkError(PipelineError, ValueError):
    """A chunk size or context that makes no sense."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Frames that one worker writes, plus the frames beside them that it only reads."""

    index: int
    frames: FrameRange
    context: FrameRange


class Chunks(Sequence[Chunk]):
    """The chunks of a range as a lazy sequence: nothing is kept but the unbroken segments.

    A segment ends at a gap in the frames or before a frame of `cuts` (the first frame of another shot). Within one, every
    chunk holds `size` frames, the last what is left; context is the `context` nearest frames on either side that can be read, and
    stays in the segment. `readable` says which can: those of the range when it isn't given, else it may lack some of them
    (frames that the plate hasn't) and hold others (beside the range).

    size 2, context 1:  1001-1005         → 1001-1002 (+1003)   1003-1004 (+1002,1005)   1005 (+1004)
    size 2, gap:        1001-1003,1010    → 1001-1002           1003                     1010
    size 4, cut 1003:   1001-1006         → 1001-1002           1003-1006
    """

    def __init__(
        self,
        frames: FrameRange,
        *,
        size: int,
        context: int = 0,
        cuts: Sequence[int] = (),
        readable: FrameRange | None = None,
    ) -> None:
        if size < 1 or context < 0:
            raise ChunkError(
                f"chunks of {size} frames with {context} frames of context", "sizes start at 1, context at 0"
            )
        self._size = size
        self._context = context
        self._segments = _segments(frames, cuts)
        self._readable = None if readable is None else [*readable]
        self._cuts = sorted(set(cuts))
        self._ends = list(accumulate(-(-(last - first + 1) // size) for first, last in self._segments))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> Chunk: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Chunk]: ...
    def __getitem__(self, index: int | slice) -> Chunk | Sequence[Chunk]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(index)
        segment = bisect_right(self._ends, index)
        first, last = self._segments[segment]
        start = first + (index - (self._ends[segment - 1] if segment else 0)) * self._size
        end = min(start + self._size - 1, last)
        return Chunk(index, FrameRange.span(start, end), self._beside(start, end, first, last))

    def _beside(self, start: int, end: int, first: int, last: int) -> FrameRange:
        if self._readable is None:
            before = FrameRange.span(max(first, start - self._context), start - 1)
            return before | FrameRange.span(end + 1, min(last, end + self._context))
        shot = bisect_right(self._cuts, start)
        from_frame = self._cuts[shot - 1] if shot else None
        to_frame = self._cuts[shot] if shot < len(self._cuts) else None
        left, right = bisect_left(self._readable, start), bisect_right(self._readable, end)
        before_all = self._readable[max(0, left - self._context) : left]
        after_all = self._readable[right : right + self._context]
        return FrameRange.of(
            [f for f in before_all if from_frame is None or f >= from_frame]
            + [f for f in after_all if to_frame is None or f < to_frame]
        )


def _segments(frames: FrameRange, cuts: Sequence[int]) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    marks = sorted(set(cuts))
    for first, last in frames.runs():
        start = first
        for cut in marks:
            if start < cut <= last:
                out.append((start, cut - 1))
                start = cut
        out.append((start, last))
    return out
