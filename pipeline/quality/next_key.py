"""Which frame to paint next: where the model is unsure, and no key is near."""

from __future__ import annotations

from collections.abc import Collection, Mapping

_FAR = 10
"""From this many frames on, distance from a key no longer makes a frame more worth painting."""


def next_key(uncertainties: Mapping[int, float], keys: Collection[int]) -> int | None:
    """The frame whose painting should help most: unsure and away from every key. None when every frame is a key.

    `uncertainties`: frame → 0 … 1. Of equals, the first.
    """
    free = sorted(set(uncertainties) - set(keys))
    if not free:
        return None

    def worth(frame: int) -> float:
        gap = min((abs(frame - key) for key in keys), default=_FAR)
        return uncertainties[frame] * min(gap, _FAR) / _FAR

    return max(free, key=lambda frame: (worth(frame), -frame))
