"""Small real plates for tests: a soft disc that moves over a still background, in scene-linear EXR, with its exact mattes."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import opentimelineio as otio

from pipeline.frames import FrameRange
from pipeline.media.exr import Frame, Part, write_frame
from pipeline.plate import FramePattern, Window

FIRST = 1001


@dataclass(frozen=True, slots=True)
class SmallPlate:
    """A plate on disk with its keys and its cut."""

    folder: Path
    pattern: FramePattern
    frames: FrameRange
    width: int
    height: int
    keys: dict[int, Path]
    cut: Path
    clip: str = "sh010"

    def key_arguments(self) -> list[str]:
        """As `plates submit` takes them."""
        return [part for frame, path in self.keys.items() for part in ("--key", f"{frame}={path}")]

    def request(self, **more: object) -> dict[str, object]:
        """As the API takes it: a roto that learns next to nothing, because that is fast."""
        keys = [{"frame": frame, "path": str(path)} for frame, path in self.keys.items()]
        return {
            "task": "roto",
            "plate": str(self.pattern),
            "keys": keys,
            "parameters": {"iterations": 0, "seed": 1},
            **more,
        }


def disc(frame: int, width: int, height: int) -> np.ndarray:
    """The exact matte of one frame, soft over two pixels."""
    t = frame - FIRST
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    distance = np.hypot(x - width * 0.35 - t * 1.5, y - height * 0.5 - np.sin(t / 2))
    return np.clip(height * 0.28 - distance + 0.5, 0, 1).astype(np.float32)


def picture(frame: int, width: int, height: int, seed: int = 7) -> np.ndarray:
    """(3, height, width) scene-linear half: a textured disc with a highlight of 12 over a background with negatives."""
    rng = np.random.default_rng(seed)
    background = rng.uniform(0.02, 0.3, (3, height, width)).astype(np.float32)
    background[:, :3] = -0.01
    texture = rng.uniform(0.5, 0.9, (3, height, 4 * width)).astype(np.float32)
    t = round((frame - FIRST) * 1.5)
    subject = texture[:, :, 2 * width - t : 3 * width - t].copy()
    subject[0] *= 1.3
    matte = disc(frame, width, height)
    out = subject * matte + background * (1 - matte)
    out[:, height // 2, width // 3 + t] = 12.0
    return out.astype(np.float16)


def write_small_plate(
    folder: Path,
    *,
    count: int = 8,
    width: int = 96,
    height: int = 64,
    keys: tuple[int, ...] | None = None,
    rate: int = 24,
    seed: int = 7,
) -> SmallPlate:
    """Write a plate `sh010.####.exr` of `count` frames, its key mattes (first, middle, last), and a cut with one clip.

    `seed`: of its textures.
    """
    frames = FrameRange.span(FIRST, FIRST + count - 1)
    pattern = FramePattern(folder / "plate", "sh010.", 4, ".exr")
    pattern.folder.mkdir(parents=True, exist_ok=True)
    window = Window.of_size(width, height)
    header = {"framesPerSecond": Fraction(rate), "nuke/input/filename": "sh010", "colorInteropID": "lin_rec709_scene"}
    for frame in frames:
        planes = dict(zip("RGB", picture(frame, width, height, seed), strict=True))
        write_frame(pattern.path(frame), Frame((Part("", header, planes, window, window),)))
    chosen = keys or (frames.first, frames.frames[count // 2], frames.last)
    paths: dict[int, Path] = {}
    (folder / "keys").mkdir(exist_ok=True)
    for frame in chosen:
        paths[frame] = folder / "keys" / f"matte.{frame}.exr"
        write_frame(paths[frame], Frame((Part("", {}, {"A": disc(frame, width, height)}, window, window),)))
    cut = folder / "cut.otio"
    write_cut(cut, pattern, frames, rate=rate)
    return SmallPlate(folder, pattern, frames, width, height, paths, cut)


def write_cut(
    path: Path, pattern: FramePattern, frames: FrameRange, *, rate: int = 24, handles: int = 1, clip: str = "sh010"
) -> None:
    """A timeline with one clip that plays the plate but `handles` frames at either end."""
    schema = otio.schema
    time = otio.opentime

    def span(first: int, count: int) -> otio.opentime.TimeRange:
        return time.TimeRange(time.RationalTime(first, rate), time.RationalTime(count, rate))

    media = schema.ImageSequenceReference(
        target_url_base=str(pattern.folder) + "/",
        name_prefix=pattern.head,
        name_suffix=pattern.tail,
        start_frame=frames.first,
        frame_zero_padding=pattern.padding,
        rate=rate,
        available_range=span(frames.first, len(frames)),
    )
    item = schema.Clip(
        name=clip, media_reference=media, source_range=span(frames.first + handles, len(frames) - 2 * handles)
    )
    track = schema.Track(name="V1", kind=schema.TrackKind.Video, children=[item])
    otio.adapters.write_to_file(schema.Timeline(name="cut", tracks=[track]), str(path))
