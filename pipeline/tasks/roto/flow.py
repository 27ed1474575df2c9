"""Carry mattes from key frames to every frame along dense optical flow.

A matte is warped frame by frame from the nearest key on either side; beside it travels a confidence, lowered where going
there and back again doesn't return (Sundaram et al. 2010). The two sides are blended by it. Nothing crosses a cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.motion import FlowPair, Warp
from pipeline.quality.overlap import region_similarity
from pipeline.tasks.roto.uncertainty import Credit

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Propagated:
    """An object's matte on one frame, as motion alone explains it.

    `matte`: (height, width) uint8. `trust`: 0 … 1, mean confidence inside it, higher where two sides vouch for it; 1 on a key,
    0 where no key reaches.
    """

    matte: Bytes
    trust: float


@dataclass(slots=True)
class _Carried:
    """A matte on its way, with its confidence at half resolution."""

    matte: Float
    confidence: Float

    @classmethod
    def of_key(cls, matte: Float) -> _Carried:
        height, width = matte.shape
        return cls(matte, np.ones(((height + 1) // 2, (width + 1) // 2), np.float32))

    def step(self, warp: Warp) -> _Carried:
        return _Carried(warp.matte(self.matte), warp.confidence(self.confidence))


class Forward:
    """Carries the mattes of several objects forward, a frame at a time, while frames still arrive: the first previews."""

    def __init__(self, keys: Mapping[str, Mapping[int, Float]]) -> None:
        self._keys = keys
        self._at: dict[str, Float] = {}

    def step(self, index: int, warp: Warp | None) -> dict[str, Float]:
        """Mattes on frame `index`; `warp` leads to the frame before, None after a cut. Objects not yet keyed are absent."""
        moved = {} if warp is None else {name: warp.matte(matte) for name, matte in self._at.items()}
        self._at = moved | {name: mattes[index] for name, mattes in self._keys.items() if index in mattes}
        return dict(self._at)


def propagate(
    keys: Mapping[int, Float], pairs: Sequence[FlowPair | None], breaks: Sequence[int], shape: tuple[int, int]
) -> Iterator[tuple[int, Propagated]]:
    """One object's matte on every frame, in no promised order, each frame once.

    `keys`: index of a frame → (height, width) matte. `pairs[i]`: between frames i and i + 1, None across a cut.
    `breaks`: indices of first frames of other shots. Frames that no key of their own shot reaches get an empty matte and no trust.
    """
    count = len(pairs) + 1
    edges = sorted({0, count, *(b for b in breaks if 0 < b < count)})
    for first, end in pairwise(edges):
        stops = sorted(k for k in keys if first <= k < end)
        if not stops:
            for index in range(first, end):
                yield index, Propagated(np.zeros(shape, np.uint8), 0.0)
            continue
        for key in stops:
            yield key, Propagated(to_bytes(keys[key]), 1.0)
        yield from _between(keys, pairs, shape, None, range(first, stops[0]), stops[0])
        for left, right in pairwise(stops):
            yield from _between(keys, pairs, shape, left, range(left + 1, right), right)
        yield from _between(keys, pairs, shape, stops[-1], range(stops[-1] + 1, end), None)


def cross_check(
    keys: Mapping[int, Float], pairs: Sequence[FlowPair | None], breaks: Sequence[int], shape: tuple[int, int]
) -> dict[int, Propagated]:
    """For each key what the others make of its frame, as `propagate` would were it not a key. Keys alone in their shot are absent."""
    count = len(pairs) + 1
    edges = sorted({0, count, *(b for b in breaks if 0 < b < count)})
    found: dict[int, Propagated] = {}
    for first, end in pairwise(edges):
        stops = sorted(k for k in keys if first <= k < end)
        for left, here, right in zip([None, *stops], stops, [*stops[1:], None], strict=False):
            sides = [_walk(keys[k], k, here, pairs, shape) for k in (left, right) if k is not None]
            if sides:
                found[here] = _blend(sides)
    return found


def credit_of(keys: Mapping[int, Float], checks: Mapping[int, Propagated]) -> Credit:
    """How far to believe flow on this shot, as `cross_check` shows it."""
    return Credit.from_keys((c.trust, region_similarity(from_bytes(c.matte), keys[i])) for i, c in checks.items())


def _walk(matte: Float, start: int, goal: int, pairs: Sequence[FlowPair | None], shape: tuple[int, int]) -> _Carried:
    carried = _Carried.of_key(matte)
    ahead = goal > start
    for index in range(start + 1, goal + 1) if ahead else range(start - 1, goal - 1, -1):
        carried = carried.step(_warp(pairs[index - 1 if ahead else index], shape, ahead=ahead))
    return carried


def _between(
    keys: Mapping[int, Float],
    pairs: Sequence[FlowPair | None],
    shape: tuple[int, int],
    left: int | None,
    span: range,
    right: int | None,
) -> Iterator[tuple[int, Propagated]]:
    """The frames of `span`, from the key on the left, on the right, or both."""
    ahead: dict[int, tuple[Bytes, Bytes]] = {}
    if left is not None:
        carried = _Carried.of_key(keys[left])
        for index in span:
            carried = carried.step(_warp(pairs[index - 1], shape, ahead=True))
            if right is None:
                yield index, _blend([carried])
            else:  # 8 bits: a long span would fill the memory
                ahead[index] = to_bytes(carried.matte), to_bytes(carried.confidence)
    if right is not None:
        carried = _Carried.of_key(keys[right])
        for index in reversed(span):
            carried = carried.step(_warp(pairs[index], shape, ahead=False))
            sides = [carried]
            if index in ahead:
                matte, confidence = ahead.pop(index)
                sides.append(_Carried(from_bytes(matte), from_bytes(confidence)))
            yield index, _blend(sides)


def _warp(pair: FlowPair | None, shape: tuple[int, int], *, ahead: bool) -> Warp:
    assert pair is not None  # spans never cross a cut
    return Warp(pair.backward, pair.forward, shape) if ahead else Warp(pair.forward, pair.backward, shape)


def _blend(sides: Sequence[_Carried]) -> Propagated:
    """Mean of the sides by confidence. An extra fall-off with distance was measured and is worse: averaging two long
    paths cancels more error than preferring the shorter one avoids."""
    height, width = sides[0].matte.shape
    weights = [
        cv2.resize(s.confidence, (width, height), interpolation=cv2.INTER_LINEAR) + np.float32(1e-6) for s in sides
    ]
    total = np.sum(weights, axis=0)
    matte = np.sum([w * s.matte for w, s in zip(weights, sides, strict=True)], axis=0) / total
    doubt = np.prod([1 - w for w in weights], axis=0)
    mass = float(matte.sum())
    trust = float(((1 - doubt) * matte).sum()) / mass if mass > 1 else 0.0
    return Propagated(to_bytes(matte), min(trust, 1.0))


def to_bytes(values: Float) -> Bytes:
    """0 … 1 as 0 … 255."""
    return np.asarray(np.clip(values * 255 + 0.5, 0, 255), np.uint8)


def from_bytes(values: Bytes) -> Float:
    """0 … 255 as 0 … 1."""
    return np.multiply(values, np.float32(1 / 255), dtype=np.float32)
