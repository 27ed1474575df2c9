"""What a new version of a cut changes for the shots: which frames it needs anew, and which it no longer plays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pipeline.edit.context import EditContext
from pipeline.frames import FrameRange


@dataclass(frozen=True, slots=True)
class CutChange:
    """One shot's frames of one media, in the media's numbers, with the handles that the contexts were made with."""

    shot: str
    media: str
    new: FrameRange
    dropped: FrameRange
    kept: FrameRange

    @property
    def changed(self) -> bool:
        """Whether any frame came or went."""
        return bool(self.new.frames or self.dropped.frames)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON, frames in their text form."""
        return {
            "shot": self.shot,
            "media": self.media,
            "new": str(self.new),
            "dropped": str(self.dropped),
            "kept": str(self.kept),
        }


def needed_frames(contexts: Iterable[EditContext]) -> dict[tuple[str, str], FrameRange]:
    """The frames that a cut needs, with handles, per (shot, media): a reel's eight characters alone are no identity.

    A clip that doesn't play, or that no job can be made of, needs none.
    """
    out: dict[tuple[str, str], set[int]] = defaultdict(set)
    for context in contexts:
        if context.plays and not context.refusals:
            out[context.shot, context.media].update(range(context.head_in, context.tail_out + 1))
    return {key: FrameRange.of(numbers) for key, numbers in out.items()}


def cut_diff(old: Iterable[EditContext], new: Iterable[EditContext]) -> list[CutChange]:
    """Every (shot, media) of either cut, sorted, with the frames that are newly needed, dropped and kept.

    Both lists must come from the same handles; else the difference of the handles shows as frames.
    """
    before, after = needed_frames(old), needed_frames(new)
    none = FrameRange()
    out: list[CutChange] = []
    for shot, media in sorted(before.keys() | after.keys()):
        was, now = before.get((shot, media), none), after.get((shot, media), none)
        out.append(CutChange(shot, media, now - was, was - now, now & was))
    return out
