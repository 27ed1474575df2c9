"""Plates that are odd but legitimate go through every task as `plates run` does it; what no task can do is told beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from farm.whole import run_whole
from pipeline.errors import SubmissionRefused
from pipeline.frames import FrameRange
from pipeline.jobs.spec import JobRequest
from pipeline.media.exr import Frame, Part, read_frame, write_frame
from pipeline.plate import FramePattern, Window

TASKS = ("roto", "matte", "style_transfer", "shot_extension")


def write_plate(
    folder: Path, window: Window, frames: FrameRange, *, display: Window | None = None, flat: float | None = None
) -> FramePattern:
    """Noise that shifts by a pixel a frame, or one value everywhere."""
    pattern = FramePattern(folder / "plate", "sh010.", 4, ".exr")
    pattern.folder.mkdir(parents=True)
    noise = np.random.default_rng(5).uniform(0.05, 0.9, (3, window.height, window.width + len(frames)))
    for n, frame in enumerate(frames):
        rgb = noise[:, :, n : n + window.width] if flat is None else np.full((3, window.height, window.width), flat)
        planes = dict(zip("RGB", np.ascontiguousarray(rgb, np.float16), strict=True))
        header = {"colorInteropID": "lin_rec709_scene"}
        write_frame(pattern.path(frame), Frame((Part("", header, planes, window, display or window),)))
    return pattern


def request(
    task: str, folder: Path, plate: FramePattern, window: Window, frames: FrameRange, **more: Any
) -> JobRequest:
    """What the task wants beside its plate: keys, a roto, a painting, a wider window."""
    half = np.zeros((window.height, window.width), np.uint8)
    half[:, : (window.width + 1) // 2] = 255
    cv2.imwrite(str(folder / "half.png"), half)
    key = {"frame": frames.first, "path": str(folder / "half.png")}
    asked: dict[str, dict[str, Any]] = {
        "roto": {"keys": [key], "parameters": {"iterations": 0, "seed": 1}},
        "matte": {"parameters": {"roto": str(folder / "half.png")}},
        "style_transfer": {"keys": [key], "parameters": {"seed": 1}},
        "shot_extension": {"parameters": {"mode": "space", "left": 3, "top": 2, "accept_joins": True, "seed": 1}},
    }
    return JobRequest(task=task, plate=str(plate), **{"out": str(folder / "out"), **asked[task], **more})


def published(asked: JobRequest) -> dict[int, Mapping[str, np.ndarray]]:
    """The version's frames, each with its channels, all finite."""
    outcome = run_whole(asked, say=lambda line: None)
    assert outcome["state"] == "succeeded", f"{outcome['message']} | {outcome['hint']}"
    pattern = FramePattern.parse(outcome["version"]["pattern"])
    assert pattern is not None
    found = {f: read_frame(pattern.path(f)).main.channels for f in FrameRange.parse(outcome["version"]["frames"])}
    assert all(np.isfinite(plane.astype(np.float32)).all() for planes in found.values() for plane in planes.values())
    assert all(0 <= entry["confidence"] <= 1 for entry in outcome["report"]["frames"])
    return found


def faults(asked: JobRequest) -> list[tuple[str, str]]:
    """What it is refused for; that nothing was written is checked along."""
    with pytest.raises(SubmissionRefused) as refused:
        run_whole(asked, say=lambda line: None)
    assert asked.out is not None and not Path(asked.out).exists()
    assert all(fault.hint for fault in refused.value.faults)
    return [(fault.where, fault.message) for fault in refused.value.faults]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("width", "height"), [(16, 16), (90, 7), (1, 24), (37, 53)])
def test_sizes_that_flow_alone_could_not_take(tmp_path: Path, task: str, width: int, height: int) -> None:
    window, frames = Window.of_size(width, height), FrameRange.span(1001, 1003)
    plate = write_plate(tmp_path, window, frames)
    found = published(request(task, tmp_path, plate, window, frames))
    assert list(found) == [1001, 1002, 1003]
    grown = (height + 2, width + 3) if task == "shot_extension" else (height, width)
    assert {plane.shape for planes in found.values() for plane in planes.values()} == {grown}


@pytest.mark.parametrize("task", TASKS)
def test_a_single_frame(tmp_path: Path, task: str) -> None:
    window, frames = Window.of_size(40, 24), FrameRange.span(0, 0)
    plate = write_plate(tmp_path, window, frames)
    assert list(published(request(task, tmp_path, plate, window, frames))) == [0]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("value", [0.0, 1.0, 65000.0, -5.0])
def test_a_plate_without_texture(tmp_path: Path, task: str, value: float) -> None:
    window, frames = Window.of_size(40, 24), FrameRange.span(-1, 1)
    plate = write_plate(tmp_path, window, frames, flat=value)
    assert list(published(request(task, tmp_path, plate, window, frames))) == [-1, 0, 1]


@pytest.mark.parametrize("task", TASKS)
def test_overscan_with_negative_origins_and_every_chunking_alike(tmp_path: Path, task: str) -> None:
    window, frames = Window(-60, -40, -13, -9), FrameRange.span(1001, 1005)
    plate = write_plate(tmp_path, window, frames, display=Window(-56, -38, -17, -11))
    one, all_at_once = (
        published(request(task, tmp_path, plate, window, frames, chunk_frames=size, out=str(tmp_path / str(size))))
        for size in (1, 1000)
    )
    for frame, planes in one.items():
        assert planes.keys() == all_at_once[frame].keys()
        for name, plane in planes.items():
            assert plane.tobytes() == all_at_once[frame][name].tobytes(), f"{name} of {frame}"


def test_what_can_be_told_beforehand_is(tmp_path: Path) -> None:
    window, frames = Window.of_size(40, 24), FrameRange.span(1001, 1003)
    plate = write_plate(tmp_path, window, frames)
    asked = {"mode": "space", "left": 8192, "right": 8192, "accept_joins": True}
    ((where, message),) = faults(request("shot_extension", tmp_path, plate, window, frames, parameters=asked))
    assert where == "parameter mode" and "at most 16384" in message
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((24, 40), np.uint8))
    black = {"roto": str(tmp_path / "black.png")}
    ((where, message),) = faults(request("matte", tmp_path, plate, window, frames, parameters=black))
    assert where == "parameter roto" and "black on every frame" in message
    ((where, _),) = faults(
        request("style_transfer", tmp_path, plate, window, frames, parameters={"prompt": "x" * 5000})
    )
    assert where == "parameter prompt"
    for frame in frames:
        grey = {"Y": read_frame(plate.path(frame)).main.channels["G"]}
        write_frame(plate.path(frame), Frame((Part("", {"colorInteropID": "lin_rec709_scene"}, grey, window, window),)))
    for task in TASKS[1:]:
        assert ("plate", "this task changes the picture in colour, the plate has only Y") in faults(
            request(task, tmp_path, plate, window, frames)
        )
