"""Points, boxes and strokes: where they lie, what is made of them without any other model, and what is refused before a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import Fault, RunnerError
from pipeline.frames import FrameRange
from pipeline.memory_shot import CURVE, MemoryShot
from pipeline.plate import FramePattern, Plate, Window
from pipeline.quality.overlap import region_similarity
from pipeline.tasks.contract import ModelRef
from pipeline.tasks.intake import Submission
from pipeline.tasks.roto.definition import RotoParameters
from pipeline.tasks.roto.intake import check
from pipeline.tasks.roto.interactive import key_of
from pipeline.tasks.roto.net import Encoder
from pipeline.tasks.roto.prompts import Prompts, prompts_of
from pipeline.tasks.roto.runner import RotoRunner
from tests.unit.tasks.roto.tiny import Scene, disk, gliding, texture

FRAMES = tuple(range(1001, 1005))
WHOLE = Window.of_size(96, 64)


def test_prompts_count_from_the_display_window_and_are_moved_to_the_data_window() -> None:
    plate, display = Window(-10, -4, 105, 67), Window(0, 0, 95, 63)
    parameters = RotoParameters(
        points=((1.0, 2.0),),
        points_off=((3.0, 4.0),),
        box=(5.0, 6.0, 7.0, 8.0),
        strokes=(((1003, 0.0, 0.0), (1003, 9.0, 9.0)),),
    )
    found = prompts_of(parameters, FRAMES, plate, display)
    assert found == {
        1001: Prompts(((11.0, 6.0),), ((13.0, 8.0),), (15.0, 10.0, 17.0, 12.0)),
        1003: Prompts(strokes=(((10.0, 4.0), (19.0, 13.0)),)),
    }


def test_a_stroke_over_frames_is_a_stroke_on_each_and_joins_what_is_there() -> None:
    stroke = ((1001, 1.0, 1.0), (1002, 2.0, 2.0), (1001, 3.0, 3.0))
    found = prompts_of(RotoParameters(points=((5.0, 5.0),), strokes=(stroke,)), FRAMES, WHOLE, WHOLE)
    assert found[1001] == Prompts(on=((5.0, 5.0),), strokes=(((1.0, 1.0), (3.0, 3.0)),))
    assert found[1002] == Prompts(strokes=(((2.0, 2.0),),))


def test_no_prompt_is_no_frame() -> None:
    assert prompts_of(RotoParameters(prompt_frame=1002), FRAMES, WHOLE, WHOLE) == {}


def test_a_long_stroke_becomes_a_few_points_from_end_to_end() -> None:
    line = tuple((float(i), 0.0) for i in range(50))
    assert Prompts(strokes=(line,)).along(3) == ((0.0, 0.0), (24.0, 0.0), (49.0, 0.0))


def standing(count: int = 4) -> Scene:
    """A red disk that glides over a green ground."""
    scene = gliding(count)
    red, green = np.array([0.8, 0.2, 0.15], np.float32), np.array([0.15, 0.5, 0.2], np.float32)
    for frame, picture in scene.pictures.items():
        matte = scene.mattes["ball"][frame]
        tint = np.where(matte[None] > 0, red[:, None, None], green[:, None, None])
        scene.pictures[frame] = np.asarray(tint * (0.7 + 0.3 * picture), np.float32)
    return scene


@pytest.fixture(scope="module")
def runner() -> RotoRunner:
    loaded = RotoRunner()
    loaded.load(ModelRef())
    return loaded


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    from pipeline.models.backbone import load_backbone

    made = Encoder()
    made.load_imagenet(load_backbone())
    return made.eval()


@pytest.mark.parametrize(
    "prompts",
    [
        Prompts(box=(16.0, 10.0, 45.0, 39.0)),
        Prompts(on=((30.0, 24.0),), box=(16.0, 10.0, 45.0, 39.0)),
        Prompts(on=((30.0, 24.0), (24.0, 20.0), (36.0, 28.0))),
        Prompts(strokes=(((22.0, 24.0), (30.0, 18.0), (38.0, 26.0)),)),
    ],
)
def test_a_thing_that_stands_out_is_found_from_any_kind_of_prompt(encoder: Encoder, prompts: Prompts) -> None:
    scene = standing(1)
    found, credit = key_of(scene.pictures[1001], prompts, encoder)
    assert region_similarity(found, scene.mattes["ball"][1001]) > 0.8
    assert 0 < credit <= 1
    again, _ = key_of(scene.pictures[1001], prompts, encoder)
    np.testing.assert_array_equal(found, again)


def test_nothing_is_found_outside_the_box(encoder: Encoder) -> None:
    scene = standing(1)
    scene.pictures[1001][0, :, 70:] = 0.8  # red as the disk
    found, _ = key_of(scene.pictures[1001], Prompts(box=(16.0, 10.0, 45.0, 39.0)), encoder)
    assert found[:, 50:].max() == 0


def test_a_point_off_takes_away_what_it_touches(encoder: Encoder) -> None:
    picture = (texture(1) * np.float32(0.2) + np.array([0.1, 0.4, 0.15], np.float32)).transpose(2, 0, 1).copy()
    left, right = disk(30, 32, 12), disk(66, 32, 12)
    picture[0][(left > 0) | (right > 0)] = 0.85
    box = (14.0, 16.0, 82.0, 48.0)
    both, _ = key_of(picture, Prompts(box=box), encoder)
    assert both[left > 0].mean() > 0.8 and both[right > 0].mean() > 0.8
    dots = tuple((66.0 + dx, 32.0 + dy) for dx in (-7, 0, 7) for dy in (-7, 0, 7))
    one, _ = key_of(picture, Prompts(on=((30.0, 32.0),), off=dots, box=box), encoder)
    assert one[left > 0].mean() > 0.8
    assert one[right > 0].mean() < 0.2


def shot_of(parameters: RotoParameters, folder: Path, **more: Any) -> MemoryShot:
    plate = {frame: CURVE.inverse(picture) for frame, picture in standing().pictures.items()}
    return MemoryShot(plate=plate, parameters=parameters, folder=folder, **more)


def test_a_box_is_enough_for_a_roto_without_any_other_model(runner: RotoRunner, tmp_path: Path) -> None:
    parameters = RotoParameters(box=(16.0, 10.0, 45.0, 39.0), iterations=0)
    shot = shot_of(parameters, tmp_path)
    facts = runner.fit(shot)
    assert facts["prompted_frames"] == [1001]
    assert facts["prompt_credit"] <= 1
    frame, asked = shot.previews[0]
    assert frame == 1001
    assert asked["matte"][24, 30] > 0 == asked["matte"][60, 90], "the box itself is shown first"
    results = {r.frame: r for r in runner.run(shot)}
    truth = standing().mattes["ball"]
    for frame, result in results.items():
        assert region_similarity(result.layers["matte"]["A"], truth[frame]) > 0.75
        assert result.quality["is_key"] == 0, "what was pointed at wasn't painted"
        assert result.quality["confidence"] <= float(facts["prompt_credit"]) + 1e-4


def test_a_prompt_joins_the_keys_of_the_only_object(runner: RotoRunner, tmp_path: Path) -> None:
    key = {"ball": {1004: standing().mattes["ball"][1004]}}
    shot = shot_of(RotoParameters(box=(16.0, 10.0, 45.0, 39.0), iterations=2), tmp_path, keys=key)
    assert runner.fit(shot)["objects"] == 1
    results = {r.frame: r for r in runner.run(shot)}
    np.testing.assert_array_equal(results[1004].layers["matte"]["A"], key["ball"][1004])
    assert results[1001].quality["is_key"] == 0


def test_prompts_that_lead_nowhere_are_refused(runner: RotoRunner, tmp_path: Path) -> None:
    key = {"ball": {1001: standing().mattes["ball"][1001]}}
    box = RotoParameters(box=(16.0, 10.0, 45.0, 39.0))
    for parameters, keys, reason in (
        (box, key, "has a key already"),
        (box.model_copy(update={"prompt_frame": 2000}), {}, "not in the shot"),
        (box, {**key, "puck": key["ball"]}, "mean one object"),
        (RotoParameters(points_off=((1.0, 1.0),)), {}, "nothing says"),
    ):
        with pytest.raises(RunnerError, match=reason):
            runner.fit(shot_of(parameters, tmp_path, keys=keys))
    with pytest.raises(RunnerError, match="not loaded"):
        RotoRunner().fit(shot_of(box, tmp_path))


def faults(
    parameters: RotoParameters, keys: Mapping[str, Sequence[int]] | None = None, family: str = ""
) -> dict[str, Fault]:
    """What the check says of a submission, by place."""
    pattern = FramePattern.parse("/plate/sh010.####.exr")
    assert pattern is not None
    frames = FrameRange.span(1001, 1004)
    plate = Plate(
        pattern=pattern,
        frames=frames,
        data_window=WHOLE,
        display_window=WHOLE,
        layers=(),
        colorspace="lin_rec709_scene",
    )

    def linear(frame: int) -> Any:
        raise AssertionError("nothing is read")

    submission = Submission(
        parameters=parameters,
        plate=plate,
        frames=frames,
        missing=FrameRange(),
        keys=keys or {},
        curves={},
        paths={},
        model=ModelRef(family=family),
        linear=linear,
    )
    return {fault.where: fault for fault in check(submission)}


def test_a_roto_needs_a_key_or_a_prompt_or_a_model_that_finds_by_itself() -> None:
    fault = faults(RotoParameters())["keys"]
    assert "needs at least 1 keyframe matte" in fault.message
    assert "--key FRAME=MATTE" in fault.hint
    assert faults(RotoParameters(), {"matte": [1001]}) == {}
    assert faults(RotoParameters(points=((3.0, 3.0),))) == {}
    assert faults(RotoParameters(strokes=(((1002, 3.0, 3.0),),))) == {}
    assert faults(RotoParameters(), family="saliency-onnx") == {}
    assert "keys" in faults(RotoParameters(), family="sam2")


@pytest.mark.parametrize(
    ("parameters", "keys", "family", "where", "word"),
    [
        (RotoParameters(points_off=((3.0, 3.0),)), {}, "", "parameter points_off", "inside"),
        (RotoParameters(points=((97.0, 3.0),)), {}, "", "parameter points", "outside the picture, 96×64"),
        (RotoParameters(points=((3.0, -1.0),)), {}, "", "parameter points", "outside"),
        (RotoParameters(strokes=(((1001, 3.0, 70.0),),)), {}, "", "parameter strokes", "outside"),
        (RotoParameters(strokes=(((1009, 3.0, 7.0),),)), {}, "", "parameter strokes", "1009"),
        (RotoParameters(points=((3.0, 3.0),), prompt_frame=999), {}, "", "parameter prompt_frame", "999"),
        (RotoParameters(box=(9.0, 9.0, 3.0, 3.0)), {}, "", "parameter box", "empty"),
        (RotoParameters(box=(100.0, 9.0, 120.0, 30.0)), {}, "", "parameter box", "outside"),
        (RotoParameters(points=((3.0, 3.0),)), {"matte": [1001]}, "", "parameter prompt_frame", "key and prompts"),
        (RotoParameters(points=((3.0, 3.0),)), {"a": [1002], "b": [1002]}, "", "parameter points", "one object"),
        (RotoParameters(points=((3.0, 3.0),)), {}, "saliency-onnx", "model", "takes no points"),
    ],
)
def test_prompts_that_cant_be_meant_are_refused_by_name(
    parameters: RotoParameters, keys: dict[str, list[int]], family: str, where: str, word: str
) -> None:
    assert word in faults(parameters, keys, family)[where].message


def test_a_stroke_without_a_sample_is_told() -> None:
    fault = faults(RotoParameters(strokes=((),)), {"matte": [1001]})["parameter strokes"]
    assert "no sample" in fault.message and fault.hint
