"""A tiny shot: a textured disk that glides over a textured ground, and a painting of any frame of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.media.transform import SHOT_CURVE
from pipeline.memory_shot import MemoryShot
from pipeline.tasks.style_transfer.definition import StyleParameters

Float = NDArray[np.float32]

HEIGHT, WIDTH = 64, 96
FIRST = 1001


def texture(seed: int, height: int = HEIGHT, width: int = WIDTH, soft: float = 1.5) -> Float:
    """Smooth noise, (height, width, 3), 0 … 1."""
    noise = np.random.default_rng(seed).random((height, width, 3), dtype=np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), soft)
    return np.asarray(np.clip((blurred - blurred.mean()) * 3 + 0.5, 0, 1), np.float32)


def disk(x: float) -> NDArray[np.bool_]:
    """Where the disk is when its centre is at `x`."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.asarray((columns - x) ** 2 + (rows - 30) ** 2 <= 14**2)


def gliding(count: int = 7, step: int = 2) -> dict[int, Float]:
    """Frame → (3, height, width) scene-linear half."""
    ground, skin = texture(1) * 0.4, texture(2) * 0.4 + 0.5
    plate = {}
    for i in range(count):
        x = 28 + step * i
        picture = np.where(disk(x)[..., None], np.roll(skin, x, axis=1), ground)
        plate[FIRST + i] = SHOT_CURVE.inverse(picture.transpose(2, 0, 1).astype(np.float32)).astype(np.float16)
    return plate


def shown(rgb: NDArray[Any]) -> Float:
    """Scene-linear to model space."""
    return SHOT_CURVE.forward(np.asarray(rgb, np.float32))


def paint(rgb: NDArray[Any]) -> Float:
    """A painting of a frame, in model space: other colours, and a canvas that moves with what was painted."""
    picture = np.clip(shown(rgb), 0, 1)
    return np.ascontiguousarray(np.stack([picture[1], 0.9 * picture[0], 1 - picture[2]]), np.float32)


def shot(
    folder: Path, keys: Sequence[int] = (FIRST,), plate: Mapping[int, Float] | None = None, **more: Any
) -> MemoryShot:
    """A shot of the scene, painted on these frames."""
    frames = gliding() if plate is None else plate
    painted = {"look": {frame: paint(frames[frame]) for frame in keys}} if keys else {}
    options: dict[str, Any] = {"parameters": StyleParameters(), "seed": 5, "keys": painted, **more}
    return MemoryShot(plate=frames, folder=folder, **options)
