"""A small shot whose truth is known beyond every edge: a wide textured picture that pans, with a disc that moves over it, and grain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.memory_shot import CURVE, MemoryShot
from pipeline.plate import Window
from pipeline.tasks.contract import FrameResult
from pipeline.tasks.shot_extension.definition import SHOT_EXTENSION, ExtensionParameters
from pipeline.tasks.shot_extension.runner import ExtensionRunner

Float = NDArray[np.float32]

WIDTH, HEIGHT = 160, 96
FIRST = 1001
BEYOND = 40
"""Pixels that the truth reaches beyond the plate on every side."""
PAN = 3.0
GRAIN = 0.02
"""Deviation of the grain in model space."""


def world(seed: int = 3) -> Float:
    """(height, width, 3) in model space: blobs of several sizes, and an even band at its bottom."""
    rng = np.random.default_rng(seed)
    height, width = HEIGHT + 2 * BEYOND, WIDTH + 2 * BEYOND + 120
    out = np.full((height, width, 3), 0.45, np.float32)
    for size, strength in ((24, 0.5), (8, 0.25), (3, 0.1)):
        noise = cv2.GaussianBlur(rng.standard_normal((height, width, 3)).astype(np.float32), (0, 0), size)
        out += strength * noise / noise.std() * 0.35
    out[BEYOND + HEIGHT * 2 // 3 :] = 0.4
    return np.clip(out, 0.06, 0.9)


_WORLD = world()


def truth(frame: int, *, grain: float = GRAIN, picture: Float | None = None) -> Float:
    """(3, height, width) scene-linear of the plate and `BEYOND` on every side."""
    t = frame - FIRST
    height, width = HEIGHT + 2 * BEYOND, WIDTH + 2 * BEYOND
    shift = np.array([[1, 0, -PAN * t - 12], [0, 1, 0]], np.float32)
    shown = cv2.warpAffine(_WORLD if picture is None else picture, shift, (width, height), flags=cv2.INTER_LINEAR)
    x, y = np.meshgrid(np.arange(width) - BEYOND, np.arange(height) - BEYOND)
    disc = np.clip(14 - np.hypot(x - 50 - 2.0 * t, y - 34) + 0.5, 0, 1)[..., None].astype(np.float32)
    texture = 0.75 + 0.15 * np.sin((x - 2.0 * t) / 2.5)[..., None].astype(np.float32)
    shown = shown * (1 - disc) + texture * disc
    noise = np.random.default_rng((5, t + 100)).standard_normal(shown.shape).astype(np.float32)
    shown = shown + grain * noise
    return CURVE.inverse(np.ascontiguousarray(shown.transpose(2, 0, 1)))


def plate(frames: Sequence[int], **more: float) -> dict[int, NDArray[np.float16]]:
    """Frame → (3, height, width) half."""
    inner = slice(BEYOND, BEYOND + HEIGHT), slice(BEYOND, BEYOND + WIDTH)
    return {f: truth(f, **more)[:, inner[0], inner[1]].astype(np.float16) for f in frames}


def shot(
    have: dict[int, NDArray[np.float16]],
    parameters: ExtensionParameters,
    folder: Path,
    frames: Sequence[int],
    *,
    whole: bool = False,
    cuts: Sequence[int] = (),
    seed: int = 0,
    **more: object,
) -> MemoryShot:
    """A context as the farm makes it: a chunk's with the plate's frames next to it, or the `whole` shot's for a fit."""
    some = next(iter(have.values()))
    own = Window.of_size(some.shape[2], some.shape[1])
    window, display = SHOT_EXTENSION.windows(parameters, own, own)
    reach = len(have) if whole else SHOT_EXTENSION.context_frames(parameters)
    below = [f for f in sorted(have) if f < min(frames)][-reach:]
    above = [f for f in sorted(have) if f > max(frames)][:reach]
    return MemoryShot(
        plate=have,
        parameters=parameters,
        folder=folder,
        frames=frames,
        context=below + above,
        cuts=cuts,
        seed=seed,
        window=window,
        plate_window=own,
        display_window=display,
        **more,  # type: ignore[arg-type]
    )


def run(
    runner: ExtensionRunner,
    have: dict[int, NDArray[np.float16]],
    parameters: ExtensionParameters,
    folder: Path,
    chunks: Sequence[Sequence[int]],
    **more: object,
) -> dict[int, FrameResult]:
    """The chunks one after the other, of a fit that lies in `folder`."""
    results = [r for frames in chunks for r in runner.run(shot(have, parameters, folder, frames, **more))]  # type: ignore[arg-type]
    assert [r.frame for r in results] == [f for frames in chunks for f in frames]
    return {r.frame: r for r in results}


def shown(linear: Float) -> Float:
    """Scene-linear to model space."""
    return CURVE.forward(np.asarray(linear, np.float32))


def psnr(a: Float, b: Float, where: NDArray[np.bool_] | None = None) -> float:
    """Of (3, height, width) in model space."""
    error = np.square(a - b).mean(0)
    return float(-10 * np.log10((error if where is None else error[where]).mean()))
