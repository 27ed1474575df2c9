"""A small real publish: an HDR plate with negatives on disk, and what a roto task made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.colorspace import CHROMATICITIES
from pipeline.frames import FrameRange
from pipeline.layer import Layer
from pipeline.media.exr import Frame, Part, pixel_hash, write_frame
from pipeline.media.exr_header import timecode_attribute
from pipeline.plate import FramePattern, Plate, Window
from pipeline.provenance import record
from pipeline.publish.run import PublishedVersion, PublishRequest, publish
from pipeline.rate import FrameRate
from pipeline.shot import Shot
from pipeline.version import Version

WIDTH, HEIGHT = 32, 24
FRAMES = FrameRange.span(1001, 1005)
SPACE = "lin_rec709_scene"
DATA, DISPLAY = Window(-2, -2, WIDTH - 3, HEIGHT - 3), Window.of_size(WIDTH - 4, HEIGHT - 4)


def header(frame: int) -> dict[str, Any]:
    return {
        "owner": "a studio",
        "nuke/node_hash": "3f2a",
        "framesPerSecond": Fraction(24000, 1001),
        "timeCode": timecode_attribute(f"01:00:00:{frame - 1001:02d}"),
        "colorInteropID": SPACE,
        "chromaticities": CHROMATICITIES[SPACE],
    }


def plate_frame(frame: int) -> Frame:
    rng = np.random.default_rng(frame)
    pixels = rng.normal(0.3, 0.6, (3, HEIGHT, WIDTH)).astype(np.float16)
    pixels[:, 3, 3] = 812.0
    channels: dict[str, Any] = dict(zip("RGB", pixels, strict=True))
    channels["A"] = np.ones((HEIGHT, WIDTH), np.float16)
    channels["depth.Z"] = np.full((HEIGHT, WIDTH), np.inf, np.float32)  # the sky: infinite, and meant
    return Frame((Part("", header(frame), channels, DATA, DISPLAY),))


def matte(frame: int) -> np.ndarray:
    out = np.zeros((HEIGHT, WIDTH), np.float16)
    out[6:18, 4 + frame - 1001 : 14 + frame - 1001] = 1
    return out


def with_part(frame: Frame, **changes: Any) -> Frame:
    return Frame((replace(frame.parts[0], **changes), *frame.parts[1:]))


def with_channels(frame: Frame, channels: Mapping[str, np.ndarray | None]) -> Frame:
    """The frame with channels added, replaced, or (None) taken away."""
    kept = {**frame.parts[0].channels, **channels}
    return with_part(frame, channels={name: plane for name, plane in kept.items() if plane is not None})


def job_record(job: int = 7, hashes: Mapping[int, str] | None = None) -> dict[str, Any]:
    spec = {
        "task": "roto",
        "user": "ann",
        "studio": "local",
        "show": "demo",
        "sequence": "",
        "shot": "sh010",
        "plate": {"pattern": "sh010.####.exr", "colorspace": SPACE, "rate": "24000/1001"},
        "frames": str(FRAMES),
        "keys": [
            {"frame": 1001, "object": "matte", "path": "k1.exr", "hash": "aa", "coverage": 0.2},
            {"frame": 1005, "object": "matte", "path": "k5.exr", "hash": "bb", "coverage": 0.2},
        ],
        "input_hashes": dict(hashes or {}),
        "cut_path": None,
    }
    take = {"index": 0, "name": "take-1", "seed": 11, "parameters": {"feather_px": 0.0}}
    return record(job=job, spec=spec, take=take, model={"name": "roto@production"}, fit={}, timings={"infer_s": 1.5})


@dataclass
class Bench:
    """One shot on disk. `spoil` rewrites produced frames; `run` publishes."""

    request: PublishRequest
    root: Path

    with_part = staticmethod(with_part)
    with_channels = staticmethod(with_channels)
    plate_frame = staticmethod(plate_frame)
    record = staticmethod(job_record)

    def made(self, frame: int) -> Frame:
        return with_channels(plate_frame(frame), {"matte.A": matte(frame)})

    def spoil(self, change: Callable[[Frame], Frame], frames: FrameRange | None = None, codec: str = "zips") -> None:
        for frame in frames or FRAMES:
            write_frame(self.request.produced[frame], change(self.made(frame)), codec=codec)

    def ask(self, **changes: Any) -> None:
        self.request = replace(self.request, **changes)

    def run(self) -> PublishedVersion:
        return publish(self.request, progress=lambda fraction, note: None)

    def left(self) -> list[str]:
        """Everything under the publish root."""
        return sorted(str(p.relative_to(self.root)) for p in self.root.rglob("*")) if self.root.exists() else []


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A shot whose publish passes every validator."""
    plates, work, root = tmp_path / "plates", tmp_path / "work", tmp_path / "publish"
    plates.mkdir()
    work.mkdir()
    pattern = FramePattern(plates, "sh010.", 4, ".exr")
    produced = {frame: work / f"frame.{frame}.exr" for frame in FRAMES}
    version = Version(Shot("demo", "sh010"), "roto", 1, "demo_sh010_roto_v001", root / "demo/sh010/roto/v001")
    plate = Plate(
        pattern=pattern,
        frames=FRAMES,
        layers=(Layer("", tuple("RGBA")), Layer("depth", ("Z",))),
        data_window=DATA,
        display_window=DISPLAY,
        colorspace=SPACE,
        rate=FrameRate.of("23.976"),
        timecode="01:00:00:00",
    )
    request = PublishRequest(
        version=version,
        plate=plate,
        frames=FRAMES,
        produced=produced,
        added_layers=("matte",),
        quality={frame: {"confidence": 1 - abs(frame - 1003) / 10 - 0.2} for frame in FRAMES},
        record=job_record(),
        rate=plate.rate,
        scratch=tmp_path / "scratch",
    )
    made = Bench(request, root)
    for frame in FRAMES:
        write_frame(pattern.path(frame), plate_frame(frame))
    made.spoil(lambda frame: frame)
    return made


@pytest.fixture
def hashes() -> dict[int, str]:
    """The plate's hashes, as the submission notes them."""
    return {frame: pixel_hash(plate_frame(frame)) for frame in FRAMES}
