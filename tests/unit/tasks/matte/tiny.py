"""Tiny composites whose alpha is known exactly: a soft disk with strands of hair, over a ground of another colour, that glides."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.memory_shot import MemoryShot
from pipeline.tasks.matte.definition import MatteParameters

Float = NDArray[np.float32]

HEIGHT, WIDTH = 96, 128
GREEN = (0.06, 0.4, 0.1)


def texture(seed: int, low: tuple[float, float, float], high: tuple[float, float, float]) -> Float:
    """Smooth noise between two colours, (height, width, 3) scene-linear."""
    noise = np.random.default_rng(seed).random((HEIGHT, WIDTH), dtype=np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 2.0)
    soft = np.clip((soft - soft.mean()) / (4 * soft.std()) + 0.5, 0, 1)[..., None]
    return np.asarray(np.float32(low) * (1 - soft) + np.float32(high) * soft, np.float32)


def hairy_disk(x: float, y: float, radius: float, *, blur: float = 0.0, fine: int = 4) -> Float:
    """Alpha of a disk with twelve strands, (height, width) 0 … 1; `blur`: motion blur to the right, pixels."""
    size = (WIDTH * fine, HEIGHT * fine)
    canvas = np.zeros((size[1], size[0]), np.uint8)
    centre = (round(x * fine), round(y * fine))
    cv2.circle(canvas, centre, round(radius * fine), 255, -1)
    for turn in np.linspace(0, 2 * np.pi, 12, endpoint=False):
        end = (round((x + np.cos(turn) * (radius + 6)) * fine), round((y + np.sin(turn) * (radius + 6)) * fine))
        cv2.line(canvas, centre, end, 255, max(1, fine // 2))
    alpha = canvas.astype(np.float32) / 255
    if blur > 0:
        kernel = np.ones((1, max(1, round(blur * fine))), np.float32)
        alpha = cv2.filter2D(alpha, -1, kernel / kernel.size)
    return np.asarray(cv2.resize(alpha, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.float32)


@dataclass(slots=True)
class Composite:
    """Frames of exact truth. `rgb`, `fore` (3, height, width) scene-linear; `alpha`, `roto` (height, width)."""

    rgb: dict[int, Float] = field(default_factory=dict)
    fore: dict[int, Float] = field(default_factory=dict)
    alpha: dict[int, Float] = field(default_factory=dict)
    roto: dict[int, Float] = field(default_factory=dict)

    def shot(self, folder: Path, frames: list[int] | None = None, **more: Any) -> MemoryShot:
        """A context over it, whose layer `matte` is the roto unless `roto=False`."""
        values = {k: v for k, v in more.items() if k in MatteParameters.model_fields}
        rest = {k: v for k, v in more.items() if k not in values and k != "with_roto"}
        layers = {"matte": self.roto} if more.get("with_roto", True) else {}
        wanted = frames if frames is not None else sorted(self.rgb)
        steady = values.get("steady", 2)
        near = {f + d for f in wanted for d in range(-steady, steady + 1)} & set(self.rgb)
        return MemoryShot(
            plate=self.rgb,
            parameters=MatteParameters(**values),
            folder=folder,
            frames=wanted,
            context=sorted(near - set(wanted)),
            **({"layers": layers} | rest),
        )


def composite(
    count: int = 1, *, blur: float = 0.0, ground: Float | None = None, step: float = 2.0, grain: float = 0.002
) -> Composite:
    """A reddish disk with hair over a bluish ground, from frame 1001 on, `step` pixels a frame to the right."""
    made = Composite()
    rng = np.random.default_rng(7)
    skin = texture(1, (0.45, 0.2, 0.1), (0.75, 0.4, 0.25))
    behind = texture(2, (0.02, 0.05, 0.12), (0.08, 0.16, 0.3)) if ground is None else ground
    for i in range(count):
        alpha = hairy_disk(44 + step * i, 48, 22, blur=blur)
        a = alpha[..., None]
        fore = np.roll(skin, round(step * i), axis=1)
        rgb = fore * a + behind * (1 - a) + rng.normal(0, grain, fore.shape).astype(np.float32)
        frame = 1001 + i
        made.rgb[frame] = np.ascontiguousarray(rgb.astype(np.float16).astype(np.float32).transpose(2, 0, 1))
        made.fore[frame] = np.ascontiguousarray(fore.transpose(2, 0, 1))
        made.alpha[frame] = alpha
        made.roto[frame] = (alpha > 0.5).astype(np.float32)
    return made


def greenscreen(*, blur: float = 0.0) -> Composite:
    """The same before an unevenly lit green screen."""
    light = np.linspace(0.75, 1.25, WIDTH, dtype=np.float32)[None, :, None]
    return composite(
        1, blur=blur, ground=np.asarray(np.float32(GREEN) * np.broadcast_to(light, (HEIGHT, WIDTH, 3)), np.float32)
    )


def enlarged(made: Composite, times: int) -> Composite:
    """The same, so many times as large; rotos stay hard."""

    def big(plane: Float) -> Float:
        if plane.ndim == 3:
            return np.stack([big(p) for p in plane])
        return np.asarray(cv2.resize(plane, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC), np.float32)

    parts = [{f: big(p) for f, p in part.items()} for part in (made.rgb, made.fore, made.alpha, made.roto)]
    large = Composite(*parts)
    large.alpha = {f: np.clip(a, 0, 1) for f, a in large.alpha.items()}
    large.roto = {f: (r > 0.5).astype(np.float32) for f, r in large.roto.items()}
    return large
