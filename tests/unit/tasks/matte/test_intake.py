"""What is refused before a job is made, on real files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import PlateError
from pipeline.frames import FrameRange
from pipeline.layer import Layer
from pipeline.plate import FramePattern, Plate, Window
from pipeline.tasks.contract import ModelRef
from pipeline.tasks.intake import Submission
from pipeline.tasks.matte.definition import MatteParameters
from pipeline.tasks.matte.intake import check

from .tiny import GREEN, HEIGHT, WIDTH, composite, greenscreen

Float = NDArray[np.float32]


def faults(
    tmp_path: Path,
    *,
    linear: Callable[[int], Float] | None = None,
    layers: tuple[Layer, ...] = (Layer("", ("R", "G", "B")),),
    paths: dict[str, Path] | None = None,
    family: str = "",
    missing: str = "",
    **parameters: Any,
) -> list[tuple[str, str]]:
    window = Window.of_size(WIDTH, HEIGHT)
    plate = Plate(
        pattern=FramePattern(tmp_path, "plate.", 4, ".exr"),
        frames=FrameRange.parse("1001-1010"),
        layers=layers,
        data_window=window,
        display_window=window,
        colorspace="lin_rec709",
    )
    submission = Submission(
        parameters=MatteParameters(**parameters),
        plate=plate,
        frames=FrameRange.parse("1001-1010"),
        missing=FrameRange.parse(missing),
        keys={},
        curves={},
        paths=paths or {},
        model=ModelRef(family=family),
        linear=linear or (lambda frame: pytest.fail("nothing needs reading")),
    )
    return [(fault.where, fault.message) for fault in check(submission)]


def painted(path: Path, trimap: Float) -> Path:
    cv2.imwrite(str(path), np.round(trimap * 255).astype(np.uint8))
    return path


def grey_between() -> Float:
    trimap = np.full((HEIGHT, WIDTH), 0.5, np.float32)
    trimap[:, :40], trimap[:, 80:] = 0, 1
    return trimap


def test_a_roto_the_plates_own_layer_or_rvm_will_do(tmp_path: Path) -> None:
    assert faults(tmp_path, paths={"roto": tmp_path / "roto.####.exr"}, roto="roto") == []
    assert faults(tmp_path, layers=(Layer("", ("R", "G", "B")), Layer("matte", ("A",)))) == []
    assert faults(tmp_path, family="rvm-onnx") == []


def test_no_roto_at_all_is_told(tmp_path: Path) -> None:
    ((where, message),) = faults(tmp_path)
    assert where == "parameter roto" and "neither" in message
    assert faults(tmp_path, family="vitmatte") == [(where, message)]


def test_a_trimap_must_be_there_and_hold_black_white_and_grey(tmp_path: Path) -> None:
    assert [w for w, _ in faults(tmp_path, source="trimap")] == ["parameter trimap"]
    good = painted(tmp_path / "good.png", grey_between())
    assert faults(tmp_path, source="trimap", trimap="good", paths={"trimap": good}) == []
    hard = painted(tmp_path / "hard.png", (grey_between() > 0.6).astype(np.float32))
    ((where, message),) = faults(tmp_path, source="trimap", trimap="hard", paths={"trimap": hard})
    assert where == "parameter trimap" and "nothing is unknown" in message
    matte = painted(tmp_path / "matte.png", composite().alpha[1001])  # smooth edges, no band
    ((_, message),) = faults(tmp_path, source="trimap", trimap="matte", paths={"trimap": matte})
    assert "nothing is unknown" in message
    void = painted(tmp_path / "void.png", np.full((HEIGHT, WIDTH), 0.5, np.float32))
    ((where, message),) = faults(tmp_path, source="trimap", trimap="void", paths={"trimap": void})
    assert where == "parameter trimap" and "black and white" in message
    ((where, message),) = faults(tmp_path, source="trimap", trimap="s", paths={"trimap": tmp_path / "shapes.nk"})
    assert where == "parameter trimap" and "shapes" in message


def test_of_a_trimap_sequence_the_sampled_frames_are_read(tmp_path: Path) -> None:
    for frame in (1001, 1006, 1010):
        painted(tmp_path / f"tri.{frame}.png", grey_between())
    assert faults(tmp_path, source="trimap", trimap="t", paths={"trimap": tmp_path / "tri.####.png"}) == []


def test_a_screen_colour_that_is_not_there_is_told(tmp_path: Path) -> None:
    ordinary, screen = composite().rgb[1001], greenscreen().rgb[1001]
    ((where, message),) = faults(tmp_path, source="screen", screen=GREEN, linear=lambda _: ordinary)
    assert where == "parameter screen" and "no screen of the colour (0.06, 0.4, 0.1)" in message
    assert faults(tmp_path, source="screen", screen=GREEN, linear=lambda _: screen) == []
    ((where, _),) = faults(tmp_path, source="screen", screen=(0.05, 0.08, 0.45), linear=lambda _: screen)
    assert where == "parameter screen"


def test_a_screen_on_one_sampled_frame_is_enough_and_missing_frames_are_not_read(tmp_path: Path) -> None:
    asked: list[int] = []

    def linear(frame: int) -> Float:
        asked.append(frame)
        return greenscreen().rgb[1001] if frame == 1008 else composite().rgb[1001]

    assert faults(tmp_path, source="screen", screen=GREEN, linear=linear, missing="1001-1002,1009-1010") == []
    assert asked[0] == 1003 and asked[-1] == 1008


def test_a_grey_screen_is_refused_without_reading(tmp_path: Path) -> None:
    ((where, message),) = faults(tmp_path, source="screen", screen=(0.4, 0.42, 0.41))
    assert where == "parameter screen" and "grey" in message


def test_a_plate_that_cannot_be_read_is_somebody_elses_fault(tmp_path: Path) -> None:
    def broken(frame: int) -> Float:
        raise PlateError(f"frame {frame} is broken")

    assert faults(tmp_path, source="screen", screen=GREEN, linear=broken) == []


def test_a_plate_without_colour_is_told(tmp_path: Path) -> None:
    found = faults(tmp_path, layers=(Layer("", ("Y",)), Layer("matte", ("A",))))
    assert found == [("plate", "this task changes the picture in colour, the plate has only Y")]


def test_a_roto_that_is_black_on_every_frame_is_told(tmp_path: Path) -> None:
    black = np.zeros((HEIGHT, WIDTH), np.uint8)
    for frame in range(1001, 1011):
        cv2.imwrite(str(tmp_path / f"m.{frame}.png"), black)
    (fault,) = faults(tmp_path, paths={"roto": tmp_path / "m.####.png"})
    assert fault[0] == "parameter roto" and "black on every frame" in fault[1]
    cv2.imwrite(str(tmp_path / "m.1007.png"), black + 255)
    assert faults(tmp_path, paths={"roto": tmp_path / "m.####.png"}) == []


def test_a_brush_far_outside_and_a_stroke_without_a_sample_are_told(tmp_path: Path) -> None:
    layers = (Layer("", ("R", "G", "B")), Layer("matte", ("A",)))
    near: tuple[Any, ...] = (((1001, -3.0, 2.0),),)
    assert faults(tmp_path, layers=layers, detail_strokes=near) == []
    for strokes, words in (((((1001, 1e9, 2.0),),), "far outside"), (((),), "no sample")):
        ((where, message),) = faults(tmp_path, layers=layers, detail_strokes=strokes)
        assert where == "parameter detail_strokes" and words in message
