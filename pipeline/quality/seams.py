"""How well made pixels join the plate's own: in light, in shape and in grain. Always against originals, never against made ones.

Pictures are (height, width, 3) in model space. Each measure is what the join shows beyond what the plate shows next to it, so that an
edge that really runs along the join costs nothing. Each has a bound at which it begins to be seen in motion; `score` is the worst of the
three as a part of its bound, so a join above 1 is one to look at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.dense_flow import DenseFlow

Float = NDArray[np.float32]

LIGHT_MOST = 0.04
"""Step in model space: 10 of 255."""
SHIFT_MOST = 3.0
"""Pixels, of 540 lines where there are more."""
GRAIN_MOST = 1.0
"""Doublings: twice or half the plate's deviation."""
_LINES = 540
_DEPTH = 12
"""Pixels on either side of a join that are looked at."""
_NO_GRAIN = 0.0015
"""Deviation in model space that nobody sees, added to both sides: where neither has grain they are alike."""
_REACH = 8
_NO_MATCH = 2.0
"""Pixels that a window counts which nothing on the made side goes on from: what was made up need not go on, what slipped must be found."""
_TEXTURE = 0.02
"""Deviation of a profile above which it can be matched."""


@dataclass(frozen=True, slots=True)
class Seam:
    """`light`: step in model space; `shift`: pixels, of 540 lines where there are more; `grain`: doublings, unsigned. 0 is perfect."""

    light: float = 0.0
    shift: float = 0.0
    grain: float = 0.0

    @property
    def score(self) -> float:
        """The worst of the three, as a part of its bound."""
        return max(self.light / LIGHT_MOST, self.shift / SHIFT_MOST, self.grain / GRAIN_MOST)

    def worst(self, other: Seam) -> Seam:
        """Of two joins of a frame, the worse in each."""
        return Seam(max(self.light, other.light), max(self.shift, other.shift), max(self.grain, other.grain))


def space_seam(picture: Float, plate: tuple[int, int, int, int]) -> Seam:
    """The join round the plate in a wider picture. `plate`: x, y, width, height in it. No join where nothing was added."""
    found = Seam()
    for strip in _strips(picture, plate):
        found = found.worst(_strip_seam(strip, picture.shape[0]))
    return found


def time_seam(
    made: Float,
    originals: Sequence[Float],
    *,
    steps: int,
    spans: Sequence[int],
    across: tuple[Float, int] | None = None,
) -> Seam:
    """The join of a made frame to the nearest original, `steps` frames away.

    `originals`: that one, the next beyond it, and a third if there is one; `spans`: frames between the first two and the last two. What the
    plate itself does from frame to frame is what the join may do: light and grain are compared after motion; the shift is the change of
    speed at the join, in pixels a frame, less the change of speed that the plate shows just before it. `across`: where the made
    frame lies in a gap, the plate's frame beyond the gap and how far that is from the nearest: its change of speed is the plate's too.
    """
    scale = min(1.0, _LINES / 2 / made.shape[0])
    size = (max(16, round(made.shape[1] * scale)), max(16, round(made.shape[0] * scale)))
    small = [cv2.resize(one, size, interpolation=cv2.INTER_AREA) for one in (made, *originals[:3])]
    on, own = _flow(small[1], small[0]), _flow(small[1], small[2])
    join, usual = _step_in_light(small[1], small[0], on), _step_in_light(small[1], small[2], own)
    speed = own / np.float32(-spans[0])
    change = _typical(on / np.float32(steps) - speed)
    natural = _typical(speed - _flow(small[2], small[3]) / np.float32(-spans[1])) if len(small) > 3 else 0.0
    if across is not None:
        beyond = cv2.resize(across[0], size, interpolation=cv2.INTER_AREA)
        natural = max(natural, _typical(_flow(small[1], beyond) / np.float32(across[1]) - speed))
    return Seam(
        light=max(0.0, join - usual),
        shift=max(0.0, change - natural) / scale * min(1.0, _LINES / made.shape[0]),
        grain=_grain_apart(originals[0], made),
    )


def _typical(vectors: Float) -> float:
    """The median length of (h, w, 2)."""
    return float(np.median(np.hypot(vectors[..., 0], vectors[..., 1])))


def _strips(picture: Float, plate: tuple[int, int, int, int]) -> Iterator[Float]:
    """(2 · _DEPTH, length, 3) along each side where pixels were added: the plate's lines first, the join in the middle."""
    x, y, width, height = plate
    depth = _DEPTH
    rows, columns = slice(y, y + height), slice(x, x + width)
    if x >= depth:
        yield np.ascontiguousarray(picture[rows, x - depth : x + depth][:, ::-1].transpose(1, 0, 2))
    if picture.shape[1] - x - width >= depth:
        yield np.ascontiguousarray(picture[rows, x + width - depth : x + width + depth].transpose(1, 0, 2))
    if y >= depth:
        yield np.ascontiguousarray(picture[y - depth : y + depth, columns][::-1])
    if picture.shape[0] - y - height >= depth:
        yield np.ascontiguousarray(picture[y + height - depth : y + height + depth, columns])


def _strip_seam(strip: Float, lines: int) -> Seam:
    d = _DEPTH
    if strip.shape[1] < 4 * d:
        return Seam()
    mean = cv2.blur(strip, (2 * d + 1, 1))

    def step(at: int) -> float:
        return float(np.quantile(np.abs(mean[at : at + 3].mean(0) - mean[at - 3 : at].mean(0)).max(-1), 0.9))

    # What the plate does between its own lines is looked at in several places: one edge along one of them proves nothing.
    light = max(0.0, step(d) - max(step(3), step(6), step(9)))
    return Seam(light, _strip_shift(strip) * min(1.0, _LINES / lines), _strip_grain(strip))


def _strip_shift(strip: Float) -> float:
    """Pixels by which edges that cross the join miss each other: the median over windows with something to match."""
    d, reach, length = _DEPTH, _REACH, 64
    grey = strip.mean(-1)
    inner, edge, outer = (cv2.GaussianBlur(grey[at : at + 1], (0, 0), 1.0)[0] for at in (d - 4, d - 1, d + 2))
    missed = []
    for at in range(reach, grey.shape[1] - length - reach, length // 2):
        part = edge[at : at + length]
        if part.std() < _TEXTURE:
            continue
        across, within = (_best_shift(part, other[at - reach : at + length + reach]) for other in (outer, inner))
        if within is None:
            continue  # the plate itself doesn't go on here: nothing to hold the made side to
        # A straight edge goes on: as far to the one side as it came from the other.
        missed.append(_NO_MATCH if across is None else abs(across + within))
    return float(np.median(missed)) if missed else 0.0


def _best_shift(profile: Float, other: Float) -> float | None:
    """Where `profile` lies best in the longer `other`, from its middle; None where it nowhere does."""
    windows = np.lib.stride_tricks.sliding_window_view(other, len(profile))
    errors = np.abs(windows - windows.mean(1, keepdims=True) - (profile - profile.mean())).mean(1)
    best = int(errors.argmin())
    if errors[best] > 0.8 * float(np.abs(profile - profile.mean()).mean()):
        return None
    return float(best - _REACH)


def _strip_grain(strip: Float) -> float:
    d = _DEPTH
    rough = _roughness(strip)
    inside, outside = rough[2 : d - 1], rough[d + 1 : -2]
    size = 24
    count = strip.shape[1] // size
    cut = count * size
    a = np.sqrt(np.square(inside[:, :cut]).reshape(inside.shape[0], count, size).mean((0, 2)))
    b = np.sqrt(np.square(outside[:, :cut]).reshape(outside.shape[0], count, size).mean((0, 2)))
    return _apart(a, b)


def _grain_apart(original: Float, made: Float) -> float:
    size = 24
    height, width = (side // size * size for side in original.shape[:2])
    if not height or not width:
        return 0.0
    sides = []
    for picture in (original, made):
        rough = np.square(_roughness(picture)[:height, :width])
        sides.append(np.sqrt(rough.reshape(height // size, size, width // size, size).mean((1, 3))).ravel())
    return _apart(sides[0], sides[1])


def _apart(a: Float, b: Float) -> float:
    """Doublings between two sides' roughness, over the places that are flat on both: elsewhere texture drowns the grain."""
    both = np.maximum(a, b)
    flat = both <= np.quantile(both, 0.3)
    ratio = (np.median(b[flat]) + _NO_GRAIN) / (np.median(a[flat]) + _NO_GRAIN)
    return float(abs(np.log2(ratio)))


def _roughness(picture: Float) -> Float:
    """(height, width): what a pixel differs from its neighbours' mean, over the channels."""
    return np.asarray((picture - cv2.blur(picture, (3, 3))).mean(-1), np.float32)


def _flow(a: Float, b: Float) -> Float:
    grey = [np.clip(one.mean(-1) * 255 + 0.5, 0, 255).astype(np.uint8) for one in (a, b)]
    return DenseFlow().between(grey[0], grey[1])


def _step_in_light(a: Float, b: Float, flow: Float) -> float:
    """How much light changes from a to b beyond motion, over blocks: the 90th percentile of the blocks' median step."""
    h, w = flow.shape[:2]
    x, y = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))
    moved = cv2.remap(b, np.dstack([x, y]) + flow, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    step = cv2.blur((moved - a).mean(-1), (17, 17))[8::16, 8::16]
    return float(np.quantile(np.abs(step), 0.9)) if step.size else 0.0
