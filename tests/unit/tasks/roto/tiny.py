"""A tiny shot with known mattes: textured shapes that glide over a textured ground."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.tasks.contract import Cancelled
from pipeline.tasks.roto.definition import RotoParameters

Float = NDArray[np.float32]

HEIGHT, WIDTH = 64, 96


def texture(seed: int, height: int = HEIGHT, width: int = WIDTH) -> Float:
    """Smooth noise, (height, width, 3), 0 … 1."""
    noise = np.random.default_rng(seed).random((height, width, 3), dtype=np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 1.5)
    return np.asarray(np.clip((soft - soft.mean()) * 3 + 0.5, 0, 1), np.float32)


def disk(x: float, y: float, radius: float, height: int = HEIGHT, width: int = WIDTH) -> Float:
    """A hard-edged disk's matte."""
    ys, xs = np.mgrid[:height, :width]
    return ((xs - x) ** 2 + (ys - y) ** 2 <= radius**2).astype(np.float32)


@dataclass(slots=True)
class Scene:
    """Frames and each object's true mattes."""

    pictures: dict[int, Float] = field(default_factory=dict)
    mattes: dict[str, dict[int, Float]] = field(default_factory=dict)


def gliding(count: int = 7, step: float = 2.0, first: int = 1001, second: bool = False) -> Scene:
    """A bright disk "ball" that moves right; with `second` a dark one, "puck", that moves left below it."""
    scene = Scene(mattes={"ball": {}, **({"puck": {}} if second else {})})
    ground, skin = texture(1) * 0.5, texture(2)
    for i in range(count):
        picture = ground.copy()
        places = {"ball": (30 + step * i, 24, 13, 0.45)}
        if second:
            places["puck"] = (70 - step * i, 48, 10, -0.25)
        for name, (x, y, radius, lift) in places.items():
            matte = disk(x, y, radius)
            moved = np.roll(skin, round(x), axis=1) * 0.5 + lift
            picture = np.where(matte[..., None] > 0, moved, picture)
            scene.mattes[name][first + i] = matte
        scene.pictures[first + i] = np.ascontiguousarray(np.clip(picture, 0, 1).transpose(2, 0, 1), np.float32)
    return scene


@dataclass(slots=True)
class TinyShot:
    """A runner's context over a scene; its pictures are in model space already."""

    scene: Scene
    keys: Mapping[str, Mapping[int, Float]]
    folder: Path
    parameters: RotoParameters = field(default_factory=lambda: RotoParameters(iterations=4))
    seed: int = 5
    frames: Sequence[int] = ()
    context: Sequence[int] = ()
    cuts: Sequence[int] = ()
    cancel_at: float = 2.0
    events: list[str] = field(default_factory=list)
    previews: list[tuple[int, dict[str, Float]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.frames = self.frames or sorted(self.scene.pictures)

    @property
    def available(self) -> Sequence[int]:
        return sorted({*self.frames, *self.context})

    def at(self, frame: int) -> RotoParameters:
        return self.parameters

    def linear(self, frame: int) -> Float:
        return self.scene.pictures[frame]

    def display(self, frame: int, height: int | None = None) -> Float:
        self.events.append("read")
        picture = self.scene.pictures[frame]
        lines, columns = picture.shape[1:]
        if height is None or height >= lines:
            return picture
        size = (round(columns * height / lines), height)
        return np.stack([cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in picture])

    def prefetch(self, frames: Sequence[int], height: int | None = None) -> None:
        pass

    def progress(self, fraction: float, note: str = "") -> None:
        self.events.append(note)
        assert 0 <= fraction <= 1
        if fraction >= self.cancel_at:
            raise Cancelled

    def preview(self, frame: int, layers: Mapping[str, Float]) -> None:
        self.events.append("preview")
        self.previews.append((frame, dict(layers)))


def painted(scene: Scene, frames: Sequence[int]) -> dict[str, dict[int, Float]]:
    """The true mattes of those frames, as keys."""
    return {name: {f: mattes[f] for f in frames} for name, mattes in scene.mattes.items()}
