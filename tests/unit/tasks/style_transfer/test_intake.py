from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.frames import FrameRange
from pipeline.layer import Layer
from pipeline.plate import FramePattern, Plate, Window
from pipeline.tasks.contract import ModelRef
from pipeline.tasks.intake import Submission
from pipeline.tasks.style_transfer.definition import StyleParameters
from pipeline.tasks.style_transfer.intake import check


def faults(
    keys: Mapping[str, Sequence[int]],
    *,
    family: str = "",
    missing: str = "",
    channels: tuple[str, ...] = ("R", "G", "B"),
    **parameters: Any,
) -> list[tuple[str, str]]:
    submission = Submission(
        parameters=StyleParameters(**parameters),
        plate=Plate(
            pattern=FramePattern(Path("/plates"), "sh010.", 4, ".exr"),
            frames=FrameRange.parse("1001-1010"),
            layers=(Layer("", channels),),
            data_window=Window.of_size(64, 48),
            display_window=Window.of_size(64, 48),
            colorspace="lin_rec709_scene",
        ),
        frames=FrameRange.parse("1001-1010"),
        missing=FrameRange.parse(missing),
        keys=keys,
        curves={},
        paths={},
        model=ModelRef(path=Path("sd") if family else None, family=family),
        linear=lambda frame: pytest.fail("nothing needs reading"),
    )
    return [(fault.where, fault.message) for fault in check(submission)]


def test_a_painted_frame_or_a_board_or_a_model_will_do() -> None:
    assert faults({"look": [1001, 1010]}) == []
    assert faults({}, mood="board") == []
    assert faults({}, family="diffusers", lora="l.safetensors", controlnet="c") == []


def test_nothing_to_go_by_is_told() -> None:
    assert faults({}) == [("keys", "there is neither a painted frame nor a mood board")]


def test_keys_outside_the_range_twice_or_where_the_plate_has_nothing_are_told() -> None:
    found = faults({"look": [1000, 1003], "other": [1003, 1009]}, missing="1009-1010")
    assert found == [
        ("keys", "frame 1000 is painted but not asked for"),
        ("keys", "frame 1009 is painted, but the plate hasn't it"),
        ("keys", "frame 1003 is painted 2 times"),
    ]


def test_what_goes_beside_a_model_needs_one_and_a_model_takes_no_keys() -> None:
    found = faults({"look": [1001]}, lora="l.safetensors", controlnet="c")
    assert [where for where, _ in found] == ["parameter lora", "parameter controlnet"]
    assert [where for where, _ in faults({"look": [1001]}, family="diffusers")] == ["keys"]


def test_a_plate_without_colour_is_told() -> None:
    assert [where for where, _ in faults({"look": [1001]}, channels=("Y",))] == ["plate"]
