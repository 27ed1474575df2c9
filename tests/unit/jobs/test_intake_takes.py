"""What is found on disk for the takes of a request: inputs, sounds, weights, frames that the plate lacks, a task's own word."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import opentimelineio as otio
import pytest
import soundfile

from pipeline import intake
from pipeline.errors import Fault, PlateError
from pipeline.intake import look_at
from pipeline.jobs.spec import JobRequest, SubmissionFacts
from pipeline.media.exr import Frame, Part, write_frame
from pipeline.parameters import Kind, Parameters, parameter
from pipeline.plate import Window
from pipeline.tasks.definition import TaskDefinition
from pipeline.tasks.intake import Submission
from tests.plates import SmallPlate, write_small_plate

COUNT, WIDTH, HEIGHT = 6, 40, 24


class _Knobs(Parameters):
    amount: float = parameter(0.5, min=0, max=2, help="How much.")
    reach: int = parameter(1, min=0, help="Frames that are read on either side.")
    extend: bool = parameter(False, help="Make what the plate lacks.")
    matte: str | None = parameter(None, kind=Kind.MASK, help="Where.")
    clean: str | None = parameter(None, kind=Kind.PLATE, help="Behind.")
    mood: str | None = parameter(None, kind=Kind.REFERENCE, help="Like what.")
    net: str | None = parameter(None, kind=Kind.MODEL, help="More weights.")


TASK = TaskDefinition(
    name="seeing", label="S", help="h", parameters=_Knobs, runner="a:B", product="s", default_model="net-1",
    context_frames=lambda p: p.reach, extends=lambda p: p.extend,  # type: ignore[attr-defined]
    inspect=f"{__name__}:has_something_to_say",
)  # fmt: skip
asked: list[Submission] = []


def has_something_to_say(submission: Submission) -> Iterable[Fault]:
    """The task's own check."""
    asked.append(submission)
    assert isinstance(submission.parameters, _Knobs)
    if submission.parameters.amount == 1.5:
        yield Fault("parameter amount", "is not for this plate", "take less")
    if submission.parameters.amount == 1.25:
        raise PlateError("the plate is not for this task")


@pytest.fixture
def plate(tmp_path: Path) -> SmallPlate:
    return write_small_plate(tmp_path / "shot", count=COUNT, width=WIDTH, height=HEIGHT)


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task, as its entry point would bring it."""
    asked.clear()
    monkeypatch.setattr(intake, "task", lambda name: TASK)


def look(plate: SmallPlate, *, roots: tuple[Path, ...] = (), **more: Any) -> SubmissionFacts:
    request = JobRequest.model_validate({"task": "seeing", "plate": str(plate.pattern), **more})
    return look_at(request, roots=roots, publish_root=plate.folder / "out")


def places(facts: SubmissionFacts) -> dict[str, str]:
    return {fault.where: fault.message for fault in facts.faults}


def matte(path: Path, value: float = 0.5, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    window = Window.of_size(*size)
    write_frame(path, Frame((Part("", {}, {"A": np.full((size[1], size[0]), value, np.float16)}, window, window),)))
    return path


# Inputs


def test_each_take_has_its_own_inputs_with_a_digest_of_each_file(plate: SmallPlate, tmp_path: Path) -> None:
    for frame in range(1000, 1009):
        matte(tmp_path / "m" / f"m.{frame}.exr", frame / 2048)
    still = matte(tmp_path / "still.exr")
    facts = look(
        plate, wedge={"matte": [str(tmp_path / "m" / "m.####.exr"), str(still)]}, frames="1002-1003",
        parameters={"amount": 0.25},
    )  # fmt: skip
    assert facts.faults == ()
    sequence, one = facts.takes
    assert list(sequence.inputs["matte"].digests) == ["m.1002.exr", "m.1003.exr"], "only what is delivered"
    assert len(set(sequence.inputs["matte"].digests.values())) == 2
    assert list(one.inputs["matte"].digests) == ["still.exr"]
    assert [submission.paths["matte"] for submission in asked] == [tmp_path / "m" / "m.####.exr", still]


def test_a_broken_input_is_the_fault_of_its_parameter(plate: SmallPlate, tmp_path: Path) -> None:
    wrong = matte(tmp_path / "wrong.exr", size=(10, 10))
    (tmp_path / "text.exr").write_text("no picture")
    (tmp_path / "empty").mkdir()
    for parameters, words in (
        ({"matte": str(wrong)}, "10×10"), ({"matte": str(tmp_path / "gone.exr")}, "gone.exr"),
        ({"matte": str(tmp_path / "text.exr")}, "text.exr"), ({"matte": str(tmp_path / "empty")}, "no frames"),
        ({"clean": str(wrong)}, "10×10"), ({"mood": str(tmp_path / "empty")}, "holds 0 pictures"),
    ):  # fmt: skip
        ((where, message),) = places(look(plate, parameters=parameters)).items()
        assert where == f"parameter {next(iter(parameters))}"
        assert words in message
    assert asked == [], "a task is not asked about files that are broken"


def test_a_sequence_that_lacks_a_frame_is_refused(plate: SmallPlate, tmp_path: Path) -> None:
    for frame in range(1001, 1006):
        matte(tmp_path / "m" / f"m.{frame}.exr")
    assert "lacks the frames 1006" in places(look(plate, parameters={"matte": str(tmp_path / "m")}))["parameter matte"]


def test_every_file_of_an_input_must_lie_inside_the_roots(plate: SmallPlate, tmp_path: Path) -> None:
    secret = matte(tmp_path / "elsewhere" / "secret.exr")
    folder = plate.folder / "m"
    for frame in plate.frames:
        matte(folder / f"m.{frame}.exr")
    (folder / "m.1003.exr").unlink()
    (folder / "m.1003.exr").symlink_to(secret)
    inside = (plate.folder,)
    assert "outside" in places(look(plate, roots=inside, parameters={"matte": str(secret)}))["parameter matte"]
    assert "outside" in places(look(plate, roots=inside, parameters={"matte": str(folder)}))["parameter matte"]
    sound = {"audio": str(tmp_path / "a.wav")}
    assert "outside" in places(look(plate, roots=inside, parameters={"amount": sound}))["parameter amount"]
    weights = str(tmp_path / "w.onnx")
    assert "outside" in places(look(plate, roots=inside, model=weights))["model"]


def test_more_weights_have_their_digest_and_a_pickle_is_refused(plate: SmallPlate, tmp_path: Path) -> None:
    import hashlib
    import pickle

    weights = tmp_path / "more.safetensors"
    weights.write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    (take,) = look(plate, parameters={"net": str(weights)}).takes
    assert take.weights == {"net": hashlib.sha256(weights.read_bytes()).hexdigest()}
    bad = tmp_path / "bad.pt"
    bad.write_bytes(pickle.dumps({"a": 1}))
    assert "parameter net" in places(look(plate, parameters={"net": str(bad)}))


# Sounds


def sound(path: Path, seconds: float) -> str:
    soundfile.write(path, np.full(round(seconds * 8000), 0.5, np.float32), 8000)
    return str(path)


def test_what_a_sound_does_is_sampled_for_every_delivered_frame(plate: SmallPlate, tmp_path: Path) -> None:
    curve = {"audio": sound(tmp_path / "a.wav", 1), "low": 0.5, "high": 2}
    (take,) = look(plate, frames="1002-1004", parameters={"amount": curve}).takes
    assert take.sound == {"amount": {1002: 1.0, 1003: 1.0, 1004: 1.0}}
    assert asked[0].curves == {"amount": {1002: 2.0, 1003: 2.0, 1004: 2.0}}


def test_a_sound_shorter_than_the_frames_is_the_fault_of_its_parameter(plate: SmallPlate, tmp_path: Path) -> None:
    curve = {"audio": sound(tmp_path / "a.wav", 5.9 / 24)}
    assert "lasts" in places(look(plate, parameters={"amount": curve}))["parameter amount"]
    assert places(look(plate, parameters={"amount": curve}, frames="1001-1005")) == {}
    assert places(look(plate, parameters={"amount": curve}, rate="25")) == {}, "faster, they are over sooner"


def test_a_sound_needs_a_rate_that_somebody_knows(plate: SmallPlate, tmp_path: Path) -> None:
    for frame in plate.frames:
        window = Window.of_size(WIDTH, HEIGHT)
        planes = {name: np.full((HEIGHT, WIDTH), 0.5, np.float16) for name in "RGB"}
        write_frame(plate.pattern.path(frame), Frame((Part("", {}, planes, window, window),)))
    curve = {"audio": sound(tmp_path / "a.wav", 1)}
    assert "nobody knows the frame rate" in places(look(plate, parameters={"amount": curve}))["parameter amount"]
    assert places(look(plate, parameters={"amount": curve}, rate="24")) == {}
    assert places(look(plate, parameters={"amount": curve}, cut=str(plate.cut))) == {}


def test_a_keyed_number_is_sampled_for_the_tasks_own_check(plate: SmallPlate) -> None:
    look(plate, frames="1001-1003", parameters={"amount": {"keys": {"1001": 0, "1003": 1}}})
    assert asked[0].curves == {"amount": {1001: 0.0, 1002: 0.5, 1003: 1.0}}


# Weights


def test_a_model_that_is_no_name_of_the_task_and_no_path_is_refused(plate: SmallPlate) -> None:
    assert "no model is called 'net-9'" in places(look(plate, model="net-9"))["model"]
    assert [take.model.name for take in look(plate, wedge={"model": ["net-1", ""]}).takes] == ["net-1", "net-1"]


def test_a_task_without_families_takes_no_weights(plate: SmallPlate, tmp_path: Path) -> None:
    (tmp_path / "w.onnx").write_bytes(b"x")
    assert "no model to choose" in places(look(plate, model=str(tmp_path / "w.onnx")))["model"]


# The task's own word


def test_a_task_is_asked_for_every_take_and_its_faults_stand_beside_the_others(plate: SmallPlate) -> None:
    facts = look(plate, wedge={"amount": [0.5, 1.5, 1.25]})
    assert [f.message for f in facts.faults] == ["is not for this plate"], (
        "once something is wrong it isn't asked again"
    )
    assert "not for this task" in places(look(plate, parameters={"amount": 1.25}))["parameters"]


def test_a_task_sees_the_plate_and_its_frames(plate: SmallPlate) -> None:
    look(plate, frames="1002-1003")
    (submission,) = asked
    assert str(submission.frames) == "1002-1003"
    assert submission.plate.data_window == Window.of_size(WIDTH, HEIGHT)
    assert submission.linear(1002).shape == (3, HEIGHT, WIDTH)
    assert (submission.model.name, submission.model.path) == ("net-1", None)


# Frames that the plate lacks


def cut(plate: SmallPlate, first: int, last: int) -> str:
    """The cut plays more than there is."""
    timeline = otio.adapters.read_from_file(str(plate.cut))
    clip = next(iter(timeline.find_clips()))
    time = otio.opentime.RationalTime
    clip.source_range = otio.opentime.TimeRange(time(first, 24), time(last - first + 1, 24))
    otio.adapters.write_to_file(timeline, str(plate.cut))
    return str(plate.cut)


@pytest.mark.parametrize(("reach", "beside"), [(0, ""), (1, "1003"), (5, "1001-1003")])
def test_what_is_missing_is_named_and_the_nearest_frames_beside_the_range_are_read(
    plate: SmallPlate, reach: int, beside: str
) -> None:
    facts = look(plate, frames="1004-1008", parameters={"extend": True, "reach": reach})
    assert (facts.frames, facts.missing, facts.beside, facts.faults) == ("1004-1008", "1007-1008", beside, ())
    assert set(facts.hashes) == {1004, 1005, 1006} | {f for f in (1001, 1002, 1003) if str(f) in beside or reach == 5}


def test_a_hole_in_the_plate_is_missing_too(plate: SmallPlate) -> None:
    plate.pattern.path(1003).unlink()
    facts = look(plate, parameters={"extend": True})
    assert (facts.frames, facts.missing, facts.beside) == ("1001-1006", "1003", "")
    assert facts.faults == ()


def test_the_cut_says_how_far_an_extension_goes(plate: SmallPlate) -> None:
    facts = look(plate, cut=cut(plate, 999, 1009), handles=0, parameters={"extend": True})
    assert (facts.frames, facts.missing, facts.faults) == ("999-1009", "999-1000,1007-1009", ())
    assert not any("extension" in warning for warning in facts.warnings)
    plain = look(plate, cut=str(plate.cut), handles=0)
    assert (plain.frames, plain.missing) == ("1001-1006", "")
    assert any("extension" in warning for warning in plain.warnings)


def test_frames_that_the_plate_lacks_stay_a_fault_for_a_task_that_does_not_extend(plate: SmallPlate) -> None:
    assert "1007-1008" in places(look(plate, frames="1004-1008"))["plate"]


def test_a_range_of_which_the_plate_has_nothing_in_reach_says_so(plate: SmallPlate) -> None:
    facts = look(plate, frames="2000-2010", parameters={"extend": True, "reach": 0})
    assert "none of the frames 2000-2010" in places(facts)["plate"]


def test_a_range_beside_the_plate_is_made_of_what_lies_nearest(plate: SmallPlate) -> None:
    facts = look(plate, frames="1010-1012", parameters={"extend": True, "reach": 2})
    assert (facts.missing, facts.beside, facts.faults) == ("1010-1012", "1005-1006", ())


def test_a_take_that_extends_beside_one_that_does_not_is_refused(plate: SmallPlate) -> None:
    """Both deliver the same frames: the one that makes none would fail on each of them, long after the submission."""
    facts = look(plate, frames="1004-1008", wedge={"extend": [True, False]})
    assert list(places(facts)) == ["take extend=False"]
    assert "1007-1008" in places(facts)["take extend=False"]
    assert places(look(plate, frames="1004-1006", wedge={"extend": [True, False]})) == {}


def test_a_task_with_another_reach_reads_as_far(plate: SmallPlate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "task", lambda name: replace(TASK, context_frames=lambda _: 2))
    assert look(plate, frames="1005-1008", parameters={"extend": True}).beside == "1003-1004"
