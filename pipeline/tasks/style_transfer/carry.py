"""Where each pixel of a frame lies in a key: displacements chained along dense flow, with a confidence that travels beside.

The confidence falls where going there and back again doesn't return (Sundaram et al. 2010) and where the path leaves the
picture. Everything is at the flow's own resolution, half the working one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.motion import FlowPair, Warp, grid

Float = NDArray[np.float32]

_OUTSIDE = np.float32(0.1)
"""What a path that left the picture keeps of its confidence in each frame."""


@dataclass(frozen=True, slots=True)
class Carried:
    """A frame's way into a key. `offset`: (height, width, 2) pixels, key position = own position + offset; `confidence`:
    (height, width) 0 … 1."""

    offset: Float
    confidence: Float

    @classmethod
    def of_key(cls, shape: tuple[int, int]) -> Carried:
        """The key's own frame, (height, width) = `shape`."""
        return cls(np.zeros((*shape, 2), np.float32), np.ones(shape, np.float32))

    def step(self, out: NDArray[np.float16], back: NDArray[np.float16]) -> Carried:
        """One frame on: `out` leads from the new frame to this one, `back` the other way."""
        flow = out.astype(np.float32)
        height, width = flow.shape[:2]
        at = grid(height, width) + flow
        offset = flow + cv2.remap(self.offset, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        confidence = Warp(out, back, (height, width)).confidence(self.confidence)
        outside = (at[..., 0] < 0) | (at[..., 0] > width - 1) | (at[..., 1] < 0) | (at[..., 1] > height - 1)
        confidence[outside] *= _OUTSIDE
        return Carried(np.asarray(offset, np.float32), confidence)


def carry(
    keys: Sequence[int], pairs: Sequence[FlowPair | None], count: int, shape: tuple[int, int]
) -> Iterator[tuple[int, int, Carried]]:
    """For every frame the way to the nearest key on its left and on its right, each where there is one before a cut.

    Gives index of the frame, index of the key, way; in no promised order, and none for the keys' own frames. `keys`: indices
    of painted frames. `pairs[i]`: between frames i and i + 1, None across a cut. `shape`: (height, width) of the flow.
    """
    painted = set(keys)
    for key in sorted(keys):
        here = Carried.of_key(shape)
        for index in range(key + 1, count):
            pair = pairs[index - 1]
            if pair is None or index in painted:
                break
            here = here.step(pair.backward, pair.forward)
            yield index, key, here
        here = Carried.of_key(shape)
        for index in range(key - 1, -1, -1):
            pair = pairs[index]
            if pair is None or index in painted:
                break
            here = here.step(pair.forward, pair.backward)
            yield index, key, here
