"""What finished shots teach a studio's roto net: frames with their true mattes, and what flow would have brought there.

Of each shot some frames are kept. For each of them the task's own propagation answers what an artist's keys would have given the net
as its prior, were only the first frame painted, only the middle one, three, five, or one in twelve. Lessons lie on disk, a file each,
so that memory holds one of them however many shots there are.

A sample is a function of the seed and its number alone: a training that goes on after a stop needs nothing else to draw the same.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RunnerError
from pipeline.models.loader import threads
from pipeline.motion import FlowEstimator, FlowPair
from pipeline.tasks.roto.flow import Bytes, credit_of, cross_check, from_bytes, propagate, to_bytes
from pipeline.tasks.roto.layers import MATTE, WORKING_HEIGHT, fit_to
from pipeline.tasks.roto.sampler import BRIGHTEST, KeyFrame, Sample, SampleMaker, background
from pipeline.tasks.training import FinishedShot

Float = NDArray[np.float32]

SUBJECT = "subject"
"""The one object that a studio's net knows."""
_LONGEST = 150
"""Frames of a shot that are read at most: one stretch of it, since flow needs neighbours. Held in memory: about 1.3 MB each."""
_EVERY = 12
_BETWEEN = 0.5
"""Part of the simulated priors that come from two keys."""
_REAL = 0.7
"""Part of the samples that are given a prior which flow really made."""
_LEVELS = 255 / BRIGHTEST


@dataclass(frozen=True, slots=True)
class Lesson:
    """A frame to learn from, on disk. `priors`: how many key sets bring one to it; `size`: height and width."""

    path: Path
    priors: int
    size: tuple[int, int]


def read_shot(
    shot: FinishedShot, folder: Path, frames: int, seed: Sequence[int], on_frame: Callable[[float], None]
) -> list[Lesson]:
    """Read a shot once and leave about `frames` lessons of it in `folder`. `seed` decides where chance does.

    `on_frame(fraction)` after each frame, and may raise to stop.
    Raises: RunnerError (a frame without a matte, or nothing in any of them), PlateError.
    """
    random = np.random.default_rng(seed)
    span = _stretch(shot.frames, random)
    wanted = {int(i) for i in np.linspace(0, len(span) - 1, min(frames, len(span))).round()}
    pictures: dict[int, Bytes] = {}
    truths: list[Bytes] = []
    pairs: list[FlowPair | None] = []
    breaks = [bisect_left(span, cut) for cut in sorted(shot.cuts)]
    flow, before = FlowEstimator(), None
    for i, frame in enumerate(span):
        rgb = shot.display(frame, WORKING_HEIGHT)
        truths.append(to_bytes(fit_to(truth_of(shot, frame), (rgb.shape[1], rgb.shape[2]))))
        if i in wanted:
            pictures[i] = np.asarray(np.clip(rgb.transpose(1, 2, 0) * _LEVELS + 0.5, 0, 255), np.uint8)
        grey = flow.prepare(rgb)
        if before is not None:
            pairs.append(None if i in breaks else flow.pair(before, grey))
        before = grey
        on_frame(0.7 * (i + 1) / len(span))
    if not any(_visible(truth) for truth in truths):
        raise RunnerError(f"{shot.name}: its layer {MATTE!r} is empty on every frame", "leave the version out")
    moved = _moved(key_sets(truths, breaks, random), sorted(wanted), truths, pairs, breaks)
    on_frame(1.0)
    return [_save(folder / f"{span[i]}.npz", pictures[i], truths[i], moved[i]) for i in sorted(wanted)]


def truth_of(shot: FinishedShot, frame: int) -> Float:
    """The delivered matte, (height, width) 0 … 1. Raises: RunnerError (the version has none there), PlateError."""
    matte = shot.layer(MATTE, frame)
    if matte is None:
        raise RunnerError(
            f"{shot.name} has no layer {MATTE!r} on frame {frame}", "learn from versions that deliver a matte"
        )
    return np.clip(matte, 0, 1)


def key_sets(truths: Sequence[Bytes], breaks: Sequence[int], random: np.random.Generator) -> list[list[int]]:
    """Which frames artists might paint, each set in every scene: nobody paints a frame where there is nothing."""
    edges = sorted({0, len(truths), *(b for b in breaks if 0 < b < len(truths))})
    scenes = [[i for i in range(a, b) if _visible(truths[i])] for a, b in pairwise(edges)]
    offset = int(random.integers(_EVERY))
    picks: tuple[Callable[[list[int]], list[int]], ...] = (
        lambda scene: scene[:1],
        lambda scene: [scene[len(scene) // 2]],
        lambda scene: spread(scene, 3),
        lambda scene: spread(scene, 5),
        lambda scene: scene[offset % len(scene) :: _EVERY],
    )
    return [sorted(i for scene in scenes if scene for i in pick(scene)) for pick in picks]


def spread(items: Sequence[int], count: int) -> list[int]:
    """The first, the last and evenly between; the first alone for one."""
    if count == 1:
        return [items[0]]
    return sorted({items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)})


class Lessons:
    """Draws samples of the lessons of many shots: every shot equally often, whatever it has of frames."""

    def __init__(self, shots: Sequence[Sequence[Lesson]], seed: int) -> None:
        self._shots = shots
        self._seed = seed
        self._makers: dict[tuple[int, int], SampleMaker] = {}

    def draw(self, number: int) -> Sample:
        """Sample `number`, always the same one."""
        random = np.random.default_rng((self._seed, number))
        lessons = self._shots[int(random.integers(len(self._shots)))]
        lesson = lessons[int(random.integers(len(lessons)))]
        frame = self.key_frame(lesson, int(random.integers(lesson.priors)) if lesson.priors else None)
        maker = self._maker(lesson.size)
        maker.random = random
        return maker.make(frame, lambda subject: background(frame, subject))

    @staticmethod
    def key_frame(lesson: Lesson, prior: int | None) -> KeyFrame:
        """A lesson as a key frame, with that one of its priors."""
        with np.load(lesson.path) as packed:
            rgb = np.multiply(packed["rgb"], np.float32(1 / _LEVELS), dtype=np.float32)
            mattes = {SUBJECT: _unpacked(packed["truth"])}
            if prior is None:
                return KeyFrame(rgb, mattes)
            quality = float(packed["quality"][prior])
            return KeyFrame(rgb, mattes, {SUBJECT: (_unpacked(packed[f"moved_{prior}"]), quality)})

    def _maker(self, size: tuple[int, int]) -> SampleMaker:
        if size not in self._makers:
            random = np.random.default_rng(self._seed)
            self._makers[size] = SampleMaker(*size, [SUBJECT], random, between=_BETWEEN, real=_REAL)
        return self._makers[size]


def _stretch(frames: Sequence[int], random: np.random.Generator) -> list[int]:
    first = int(random.integers(max(1, len(frames) - _LONGEST + 1)))
    return list(frames[first : first + _LONGEST])


def _visible(truth: Bytes) -> bool:
    return bool((truth > 127).any())


def _moved(
    sets: Sequence[Sequence[int]],
    wanted: Sequence[int],
    truths: Sequence[Bytes],
    pairs: Sequence[FlowPair | None],
    breaks: Sequence[int],
) -> dict[int, list[tuple[Bytes, float]]]:
    """Wanted index → for each set that has no key there, what a fit with those keys would give the net: a prior and the
    overlap expected of it."""
    shape = truths[0].shape

    def brought(keys: Sequence[int]) -> dict[int, tuple[Bytes, float]]:
        mattes: Mapping[int, Float] = {i: from_bytes(truths[i]) for i in keys}
        credit = credit_of(mattes, cross_check(mattes, pairs, breaks, shape))
        priors = propagate(mattes, pairs, breaks, shape)
        return {i: (p.matte, credit.quality(p.trust)) for i, p in priors if i in wanted and i not in keys}

    with ThreadPoolExecutor(threads()) as pool:
        found = list(pool.map(brought, sets))
    return {i: [one[i] for one in found if i in one] for i in wanted}


def _save(path: Path, rgb: Bytes, truth: Bytes, moved: Sequence[tuple[Bytes, float]]) -> Lesson:
    packed = {f"moved_{n}": _packed(matte) for n, (matte, _) in enumerate(moved)}
    quality = np.array([q for _, q in moved], np.float32)
    np.savez(path, rgb=rgb, truth=_packed(truth), quality=quality, **packed)  # type: ignore[arg-type]  # as in fitted.py
    return Lesson(path, len(moved), (rgb.shape[0], rgb.shape[1]))


def _packed(matte: Bytes) -> Bytes:
    return np.asarray(cv2.imencode(".png", matte, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1], np.uint8)


def _unpacked(packed: Bytes) -> Float:
    return from_bytes(np.asarray(cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE), np.uint8))
