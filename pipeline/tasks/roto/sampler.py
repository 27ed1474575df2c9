"""Training samples for one shot, made out of its few key frames.

Each sample is a crop of a key frame, turned, scaled, bent and regraded; often the object is lifted off and set down
elsewhere on its own background (lucid dreaming: Khoreva et al. 2017). Its prior is the true matte damaged the way that
propagation damages mattes: shifted, bent, thickened, with bites and blots, or missing altogether; for a frame between two
keys it is the mean of two such mattes, since that is what the net will be shown there.
All chance comes from one generator: a seed gives the same samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.quality.overlap import region_similarity

Float = NDArray[np.float32]

CROP = (288, 448)
"""Height and width of a sample, unless the frame is smaller."""
BRIGHTEST = 1.5
"""Model-space values above this are held there: highlights say "bright", not how bright."""
_NEAR_OBJECT = 0.6
_LIFTED = 0.4
_BLURRED = 0.3
_NO_PRIOR = 0.2
_REAL_PRIOR = 0.4
"""Of the samples that weren't lifted."""
_WORST_QUALITY = 0.05
"""Lowest overlap that a prior is credited with; 0 says that there is none."""
_SMALLEST = 20
"""Objects of fewer pixels in a crop get no prior."""


@dataclass(frozen=True, slots=True)
class KeyFrame:
    """A frame that an artist painted. `rgb`: (height, width, 3) in model space; `mattes`: object → (height, width).
    `moved`: object → what flow makes of the object's other keys here, where it has others, and the overlap expected of it."""

    rgb: Float
    mattes: Mapping[str, Float]
    moved: Mapping[str, tuple[Float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sample:
    """`rgb` (3, h, w); `prior` (2 · objects, h, w) as the net takes it; `truth` (objects, h, w); `known` (objects,): 0 where the frame
    says nothing of the object."""

    rgb: Float
    prior: Float
    truth: Float
    known: Float


class Sampler:
    """Draws samples from key frames of one size. `objects` gives the order of the planes; `between` the part of the shot's
    frames that lie between two keys."""

    def __init__(self, frames: Sequence[KeyFrame], objects: Sequence[str], seed: int, *, between: float = 0.0) -> None:
        self._frames = [replace(f, rgb=np.clip(f.rgb, 0, BRIGHTEST)) for f in frames]
        self._random = np.random.default_rng(seed)
        height, width = frames[0].rgb.shape[:2]
        self._maker = SampleMaker(height, width, objects, self._random, between=between)
        self._round: list[int] = []
        self._clean: dict[tuple[int, str], Float] = {}

    def draw(self) -> Sample:
        """The next sample."""
        index = self._next_frame()
        return self._maker.make(self._frames[index], lambda subject: self._background(index, subject))

    def _next_frame(self) -> int:
        """Each frame equally often, in shuffled rounds."""
        if not self._round:
            self._round = [int(i) for i in self._random.permutation(len(self._frames))]
        return self._round.pop()

    def _background(self, index: int, subject: str) -> Float:
        if (index, subject) not in self._clean:
            self._clean[index, subject] = background(self._frames[index], subject)
        return self._clean[index, subject]


class SampleMaker:
    """Makes samples of frames of one size, by what `random` says. `real` is the part of the samples that weren't lifted which are
    given a prior that flow really made, where the frame has one."""

    def __init__(
        self,
        height: int,
        width: int,
        objects: Sequence[str],
        random: np.random.Generator,
        *,
        between: float = 0.0,
        real: float = _REAL_PRIOR,
    ) -> None:
        self.random = random
        self._objects = tuple(objects)
        self._between = between
        self._real = real
        self.height, self.width = min(CROP[0], _ceil32(height)), min(CROP[1], _ceil32(width))
        x, y = np.meshgrid(np.arange(self.width, dtype=np.float32), np.arange(self.height, dtype=np.float32))
        self._x, self._y = x, y
        self._grain = random.standard_normal(6 * self.height * self.width, dtype=np.float32) * np.float32(0.01)

    def make(self, frame: KeyFrame, background: Callable[[str], Float]) -> Sample:
        """A sample of `frame`, whose values don't pass BRIGHTEST. `background`: what it looks like without an object, (height,
        width, 3); asked for only where that object is lifted."""
        r = self.random
        names = [name for name in self._objects if name in frame.mattes]
        subject = names[int(r.integers(len(names)))]
        box = _box(frame.mattes[subject])
        map_x, map_y = self._camera(frame, box)
        real: dict[str, tuple[Float, float]] = {}
        if r.random() < _LIFTED and box[2] > 0:
            rgb, mattes = self._lift(frame, subject, background(subject), map_x, map_y)
        else:
            rgb = _remap(frame.rgb, map_x, map_y)
            if r.random() < self._real:
                real = {name: (_remap(moved, map_x, map_y), quality) for name, (moved, quality) in frame.moved.items()}
            mattes = {name: _remap(frame.mattes[name], map_x, map_y) for name in names}
        rgb = self._regrade(rgb)
        count = len(self._objects)
        truth = np.zeros((count, self.height, self.width), np.float32)
        prior = np.zeros((2 * count, self.height, self.width), np.float32)
        known = np.zeros(count, np.float32)
        given = r.random() >= _NO_PRIOR
        for i, name in enumerate(self._objects):
            if name not in mattes:
                continue
            truth[i], known[i] = mattes[name], 1
            if given:
                prior[i], prior[count + i] = real[name] if name in real else self._propagated(mattes[name])
        return Sample(np.ascontiguousarray(rgb.transpose(2, 0, 1)), prior, truth, known)

    def _camera(self, frame: KeyFrame, box: tuple[int, int, int, int]) -> tuple[Float, Float]:
        """Where each pixel of the crop lies in the frame: near the subject or anywhere, turned, scaled, mirrored, bent."""
        r = self.random
        height, width = frame.rgb.shape[:2]
        x, y, w, h = box
        if w > 0 and r.random() < _NEAR_OBJECT:
            spread = np.maximum((w, h), 60)
            centre = np.array((x + w / 2, y + h / 2)) + r.uniform(-0.5, 0.5, 2) * spread
        else:
            centre = r.uniform(0, 1, 2) * (width, height)
        turn = self._turn(0.3, 12)
        if r.random() < 0.5:
            turn = turn @ np.diag((-1.0, 1.0)).astype(np.float32)
        bend = self._bend(r.uniform(0, 5))
        gx, gy = self._x - np.float32(self.width / 2), self._y - np.float32(self.height / 2)
        return _affine(turn, gx, gy, centre, bend)

    def _lift(
        self, frame: KeyFrame, subject: str, background: Float, map_x: Float, map_y: Float
    ) -> tuple[Float, dict[str, Float]]:
        """The subject moved over its own background; other objects stay behind it."""
        r = self.random
        x, y, w, h = _box(frame.mattes[subject])
        centre = np.array((x + w / 2, y + h / 2))
        behind_x = map_x + np.float32(r.uniform(-40, 40))
        behind_y = map_y + np.float32(r.uniform(-20, 20))
        behind = _remap(background, behind_x, behind_y)
        turn = self._turn(0.15, 10)
        shift = r.uniform(-1, 1, 2) * max(w, h) * 0.2
        bend = self._bend(r.uniform(0, 8))
        over_x, over_y = _affine(
            turn, map_x - np.float32(centre[0]), map_y - np.float32(centre[1]), centre + shift, bend
        )
        matte = _remap(frame.mattes[subject], over_x, over_y, border=cv2.BORDER_CONSTANT)
        gain = np.float32(r.uniform(0.85, 1.15))
        alpha = cv2.GaussianBlur(matte, (0, 0), 1)[..., None]
        rgb = _remap(frame.rgb, over_x, over_y) * gain * alpha + behind * (1 - alpha)
        others = {n: _remap(m, behind_x, behind_y) * (1 - matte) for n, m in frame.mattes.items() if n != subject}
        return rgb, {subject: matte, **others}

    def _regrade(self, rgb: Float) -> Float:
        """Another light, another stop, sometimes motion blur, always some grain."""
        r = self.random
        np.maximum(rgb, 0, out=rgb)
        rgb = np.asarray(cv2.pow(rgb, float(np.exp(r.uniform(-0.25, 0.25)))), np.float32)
        rgb *= (r.uniform(0.85, 1.15, 3) * r.uniform(0.8, 1.2)).astype(np.float32)
        rgb += np.float32(r.uniform(-0.06, 0.06))
        if r.random() < _BLURRED:
            length = int(r.integers(3, 15))
            line = np.zeros((length, length), np.float32)
            line[length // 2] = 1 / length
            spin = cv2.getRotationMatrix2D((length / 2 - 0.5, length / 2 - 0.5), r.uniform(0, 180), 1)
            line = cv2.warpAffine(line, spin, (length, length))
            rgb = np.asarray(cv2.filter2D(rgb, -1, line / max(float(line.sum()), 1e-3)), np.float32)
        start = int(r.integers(self._grain.size - rgb.size + 1))
        rgb += self._grain[start : start + rgb.size].reshape(rgb.shape)
        return np.clip(rgb, 0, BRIGHTEST, out=rgb)

    def _propagated(self, matte: Float) -> tuple[Float, float]:
        """What the flow's blend might have made of this matte, from one key or from one on either side, and about what
        overlap with the truth it would be credited with."""
        if int((matte > 0.5).sum()) < _SMALLEST:
            return np.zeros_like(matte), 0.0
        r = self.random
        prior = self._damage(matte)
        if r.random() < self._between:
            share = np.float32(r.uniform(0.3, 0.7))
            prior = share * prior + (1 - share) * self._damage(matte)
        error = 1 - region_similarity(prior, matte)
        return prior, max(_WORST_QUALITY, 1 - error * float(np.exp(r.normal(0, 0.3))))

    def _damage(self, matte: Float) -> Float:
        """What one path of flow might have made of this matte."""
        r = self.random
        solid = (matte > 0.5).astype(np.uint8)
        ys, xs = np.nonzero(solid)
        size = float(max(np.ptp(xs), np.ptp(ys))) * r.uniform(0.1, 1)
        centre = np.array((xs.mean(), ys.mean()))
        bend = self._bend(r.uniform(0, 0.05) * size, cells=8)
        shift = r.uniform(-1, 1, 2) * size * 0.06
        x, y = self._x - np.float32(centre[0]), self._y - np.float32(centre[1])
        map_x, map_y = _affine(self._turn(0.06, 4), x, y, centre + shift, bend)
        prior = _remap(matte, map_x, map_y, border=cv2.BORDER_CONSTANT)
        if r.random() < 0.4:
            reach = int(r.integers(3, max(4, int(size * 0.08) + 4)))
            change = cv2.dilate if r.random() < 0.5 else cv2.erode
            prior = change(prior, np.ones((reach, reach), np.uint8))
        for _ in range(int(r.integers(0, 3))):
            radius = int(size * r.uniform(0.05, 0.25)) + 2
            at = (int(r.choice(xs) + r.normal(0, size * 0.2)), int(r.choice(ys) + r.normal(0, size * 0.2)))
            cv2.circle(prior, at, radius, 1.0 if r.random() < 0.5 else 0.0, -1)
        return np.asarray(cv2.GaussianBlur(prior, (0, 0), r.uniform(0.5, 3)), np.float32)

    def _turn(self, scale: float, degrees: float) -> Float:
        """A turn up to ± `degrees` with a scale up to e^±`scale`, as a 2 × 2 matrix."""
        s = np.exp(self.random.uniform(-scale, scale))
        a = np.deg2rad(self.random.uniform(-degrees, degrees))
        return np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]], np.float32) * np.float32(s)

    def _bend(self, amount: float, cells: int = 6) -> Float:
        """A smooth random displacement, (height, width, 2), of about `amount` pixels."""
        coarse = self.random.standard_normal((cells, cells, 2), dtype=np.float32) * np.float32(amount)
        return np.asarray(cv2.resize(coarse, (self.width, self.height), interpolation=cv2.INTER_CUBIC), np.float32)


def background(frame: KeyFrame, subject: str) -> Float:
    """The frame without the subject, (height, width, 3), filled in from round it at a quarter of the size (Telea 2004)."""
    height, width = frame.rgb.shape[:2]
    matte = (frame.mattes[subject] > 0.2).astype(np.uint8)
    size = (max(1, width // 4), max(1, height // 4))
    small = np.clip(cv2.resize(frame.rgb, size, interpolation=cv2.INTER_AREA) * (255 / BRIGHTEST), 0, 255).astype(
        np.uint8
    )
    hole = cv2.dilate(cv2.resize(matte, size, interpolation=cv2.INTER_NEAREST), np.ones((5, 5), np.uint8))
    filled = cv2.inpaint(small, hole, 5, cv2.INPAINT_TELEA).astype(np.float32) * (BRIGHTEST / 255)
    filled = cv2.resize(filled, (width, height))
    soft = cv2.GaussianBlur(cv2.dilate(matte, np.ones((9, 9), np.uint8)).astype(np.float32), (0, 0), 3)[..., None]
    return np.asarray(frame.rgb * (1 - soft) + filled * soft, np.float32)


def _affine(turn: Float, x: Float, y: Float, centre: NDArray[np.float64], bend: Float) -> tuple[Float, Float]:
    map_x, map_y = bend[..., 0] + np.float32(centre[0]), bend[..., 1] + np.float32(centre[1])
    map_x += turn[0, 0] * x
    map_x += turn[0, 1] * y
    map_y += turn[1, 0] * x
    map_y += turn[1, 1] * y
    return map_x, map_y


def _remap(image: Float, map_x: Float, map_y: Float, *, border: int = cv2.BORDER_REFLECT_101) -> Float:
    return np.asarray(cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR, borderMode=border), np.float32)


def _box(matte: Float) -> tuple[int, int, int, int]:
    """x, y, width, height of what is opaque; all 0 when nothing is."""
    x, y, w, h = cv2.boundingRect((matte > 0.5).astype(np.uint8))
    return int(x), int(y), int(w), int(h)


def _ceil32(length: int) -> int:
    return (length + 31) // 32 * 32
