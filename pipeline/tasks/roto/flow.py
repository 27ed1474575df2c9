"""Carry mattes from key frames to every frame along dense optical flow.

DIS flow (Kroeger et al. 2016) is estimated at half the working resolution, where DIS MEDIUM works anyway, and kept as float16.
A matte is warped frame by frame from the nearest key on either side; beside it travels a confidence, lowered where going
there and back again doesn't return (Sundaram et al. 2010). The two sides are blended by it. Nothing crosses a cut.

Flow is (height, width, 2) in pixels of its own grid: x(b) = x(a) + flow_ab(x(a)), x to the right, y down.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Half = NDArray[np.float16]
Bytes = NDArray[np.uint8]

_DECAY = 0.98
"""What a frame of distance costs of the confidence."""
_BROKEN = 0.5
"""What a failed round trip leaves of the confidence."""
_RELATIVE, _ABSOLUTE = 0.01, 0.125
"""A round trip fails above `_RELATIVE`·|flow|² + `_ABSOLUTE`, squared pixels at half resolution."""


@dataclass(frozen=True, slots=True)
class FlowPair:
    """Flow between a frame and the next, both ways, at half the working resolution."""

    forward: Half
    backward: Half


@dataclass(frozen=True, slots=True)
class Propagated:
    """An object's matte on one frame, as motion alone explains it.

    `matte`: (height, width) uint8. `trust`: 0 … 1, mean confidence inside it, higher where two sides vouch for it; 1 on a key,
    0 where no key reaches.
    """

    matte: Bytes
    trust: float


class FlowEstimator:
    """Flow between two frames of one size."""

    def __init__(self) -> None:
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._dis.setFinestScale(0)  # the frames are halved already

    @staticmethod
    def prepare(rgb: Float) -> Bytes:
        """(3, height, width) in model space to what `pair` takes: grey, half size, 8 bit; highlights clip."""
        grey = np.tensordot(np.array((0.299, 0.587, 0.114), np.float32), rgb, 1)
        height, width = grey.shape
        small = cv2.resize(grey, ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)
        return np.asarray(np.clip(small * 255 + 0.5, 0, 255), np.uint8)

    def pair(self, a: Bytes, b: Bytes) -> FlowPair:
        """Both flows between two prepared frames."""
        return FlowPair(self._one(a, b), self._one(b, a))

    def _one(self, a: Bytes, b: Bytes) -> Half:
        return np.asarray(self._dis.calc(a, b, None), np.float16)


class Warp:
    """What one step against a flow does to pictures of the working resolution."""

    def __init__(self, out: Half, back: Half, shape: tuple[int, int]) -> None:
        """`out` leads from the frame that is made to the one that is known, `back` the other way."""
        small = out.astype(np.float32)
        grid = _grid(small.shape[0], small.shape[1])
        returned = small + cv2.remap(
            back.astype(np.float32), grid + small, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        limit = _RELATIVE * 2 * np.square(small).sum(-1) + _ABSOLUTE
        self._kept = np.where(np.square(returned).sum(-1) < limit, np.float32(_DECAY), np.float32(_DECAY * _BROKEN))
        self._small_map = grid + small
        height, width = shape
        self._map = _grid(height, width) + cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR) * 2

    def matte(self, known: Float) -> Float:
        """The known frame's matte, (height, width), on the made frame."""
        return np.asarray(
            cv2.remap(known, self._map, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32
        )

    def confidence(self, known: Float) -> Float:
        """The known frame's confidence at half resolution, on the made frame."""
        moved = cv2.remap(known, self._small_map, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(moved * self._kept, np.float32)


def _grid(height: int, width: int) -> Float:
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return np.dstack([x, y])


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
