"""From a request and what was found of its files to a complete spec, or to every fault at once."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.edit.context import EditContext
from pipeline.errors import Fault, SubmissionRefused
from pipeline.frames import FrameRange
from pipeline.jobs.resolve import Defaults, frames_to_deliver, resolve
from pipeline.jobs.spec import FaultText, JobRequest, JobSpec, KeyRequest, KeySpec, PlateSpec, SubmissionFacts, TakeSpec
from pipeline.layer import Layer
from pipeline.parameters import Kind, Parameters, parameter
from pipeline.plate import FramePattern, Plate, Window
from pipeline.rate import FrameRate
from pipeline.tasks.definition import TaskDefinition


class _Parameters(Parameters):
    strength: float = parameter(0.5, min=0, max=1, help="How much.")
    seed: int | None = parameter(None, kind=Kind.SEED, min=0, max=2**31 - 1, help="Start of chance.")


KEYED = TaskDefinition(
    name="keyed", label="Keyed", help="Needs keys.", parameters=_Parameters, runner="a:B", product="keyed",
    keys_min=1, default_model="net-1",
)  # fmt: skip
KEYLESS = TaskDefinition(
    name="keyless", label="Keyless", help="Takes none.", parameters=_Parameters, runner="a:B", product="keyless"
)
DEFAULTS = Defaults(studio="acme", show="film", publish_root=Path("/publish"))
KEY = KeyRequest(frame=1001, path="/keys/1001.exr")


def plate_spec(
    rate: str | None = "24", pattern: str = "/plates/sh010.####.exr", frames: str = "1001-1010"
) -> PlateSpec:
    return PlateSpec(
        pattern=pattern,
        frames=frames,
        layers=(("", ("R", "G", "B"), 0),),
        data_window=(0, 0, 63, 31),
        display_window=(0, 0, 63, 31),
        colorspace="lin_rec709_scene",
        source_colorspace="lin_rec709_scene",
        rate=rate,
    )


def edit(rate: str = "24", shot: str = "sh020", first: int = 1003, last: int = 1008) -> dict[str, Any]:
    context = EditContext(
        clip=shot, shot=shot, media="/plates/sh010.####.exr", rate=FrameRate.of(rate), cut_in=first, cut_out=last,
        head_in=first, tail_out=last, source_first=first, source_last=last, available_first=1001, available_last=1010,
        cuts=(1005,),
    )  # fmt: skip
    return context.as_json()


def request(**more: Any) -> JobRequest:
    return JobRequest.model_validate({"task": "keyed", "plate": "/plates", "keys": [KEY.model_dump()], **more})


def facts(**more: Any) -> SubmissionFacts:
    keys = (KeySpec(**KEY.model_dump(), hash="ab", coverage=0.3),)
    return SubmissionFacts.model_validate(
        {"plate": plate_spec(), "frames": "1001-1010", "keys": keys, "hashes": {1001: "cd"}, **more}
    )


def make(
    asked: JobRequest, found: SubmissionFacts, *, definition: TaskDefinition = KEYED, draw: int | None = 77
) -> JobSpec:
    drawn = [] if draw is None else [draw]
    return resolve(asked, found, definition, defaults=DEFAULTS, draw_seed=drawn.pop)


def refused(asked: JobRequest, found: SubmissionFacts, *, definition: TaskDefinition = KEYED) -> dict[str, Fault]:
    with pytest.raises(SubmissionRefused) as error:
        make(asked, found, definition=definition)
    assert len({f.where for f in error.value.faults}) == len(error.value.faults), "each fault has a place of its own"
    return {fault.where: fault for fault in error.value.faults}


def test_a_good_request_becomes_a_complete_spec() -> None:
    spec = make(request(parameters={"strength": 0.25}, user="ada"), facts(warnings=("soft",)))
    assert (spec.studio, spec.show, spec.sequence, spec.shot) == ("acme", "film", "", "sh010")
    assert (spec.task, spec.model, spec.codec, spec.publish_root) == ("keyed", "net-1", "zips", "/publish")
    assert spec.takes[0].parameters == {"strength": 0.25, "seed": None}
    assert spec.keys[0].hash == "ab"
    assert spec.input_hashes == {1001: "cd"}
    assert spec.warnings == ("soft",)
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec


def test_faults_of_files_parameters_keys_names_and_rate_are_told_at_once() -> None:
    asked = request(
        parameters={"strength": 3, "colour": "red"},
        keys=[
            {"frame": 1001, "path": "/k"},
            {"frame": 1001, "path": "/l"},
            {"frame": 1001, "path": "/m", "object": "a_b"},
            {"frame": 2000, "path": "/n"},
        ],
        show="no/slash", sequence="..", shot="-x", rate="fast",
    )  # fmt: skip
    found = refused(asked, facts(faults=(FaultText(where="plate", message="frame 1004 is broken", hint="render it"),)))
    assert set(found) == {
        "plate", "parameter strength", "parameter colour", "key matte:1001", "key a_b:1001", "key matte:2000",
        "key matte", "show", "sequence", "shot", "rate",
    }  # fmt: skip
    assert found["plate"] == Fault("plate", "frame 1004 is broken", "render it")
    assert "twice" in found["key matte:1001"].message
    assert "1001-1010" in found["key matte:2000"].message
    assert "0 to 1" in found["parameter strength"].hint
    assert [where for where, fault in found.items() if not fault.hint] == []


def test_a_missing_seed_is_drawn_once_and_recorded() -> None:
    assert make(request(), facts(), draw=77).takes == (
        TakeSpec(index=0, name="take-1", seed=77, parameters={"strength": 0.5, "seed": None}),
    )


@pytest.mark.parametrize("seed", [0, 5])
def test_a_given_seed_is_kept_0_included_and_none_is_drawn(seed: int) -> None:
    assert make(request(parameters={"seed": seed}), facts(), draw=None).takes[0].seed == seed


def test_a_refused_request_draws_no_seed() -> None:
    with pytest.raises(SubmissionRefused):
        make(request(shot="a/b"), facts(), draw=None)


@pytest.mark.parametrize(
    ("said", "plate", "cut", "agreed"),
    [
        (None, "24", None, "24"),
        ("23.976", None, None, "24000/1001"),
        ("23.976", "24000/1001", "24000/1001", "24000/1001"),
        (None, None, "25", "25"),
        (None, None, None, None),
    ],
)
def test_the_rate_is_whatever_everyone_who_knows_one_says(
    said: str | None, plate: str | None, cut: str | None, agreed: str | None
) -> None:
    found = facts(plate=plate_spec(plate), edit=None if cut is None else edit(cut))
    assert make(request(rate=said), found).plate.rate == agreed


def test_rates_that_differ_are_refused_with_who_says_what() -> None:
    found = refused(request(rate="30"), facts(plate=plate_spec("24"), edit=edit("25")))
    for words in ("--rate says 30", "the plate says 24", "the cut says 25"):
        assert words in found["rate"].message


@pytest.mark.parametrize(
    ("said", "cut", "pattern", "shot"),
    [
        ("sh999", "sh020", "/plates/sh010.####.exr", "sh999"),
        (None, "sh020", "/plates/sh010.####.exr", "sh020"),
        (None, None, "/plates/sh010_bg.####.exr", "sh010-bg"),
        (None, None, "/plates/sh030/####.exr", "sh030"),
        (None, None, "/plates/_.####.exr", "plates"),
        (None, None, "/####.exr", "shot"),
    ],
)
def test_the_shot_is_named_by_the_person_else_the_clip_else_the_plate(
    said: str | None, cut: str | None, pattern: str, shot: str
) -> None:
    found = facts(plate=plate_spec(pattern=pattern), edit=None if cut is None else edit(shot=cut))
    assert make(request(shot=said), found).shot == shot


@pytest.mark.parametrize("name", ["matte", "rgb", "rgba"])
def test_one_of_several_objects_may_not_have_the_name_of_a_layer_that_is_there_anyway(name: str) -> None:
    keys = [{"frame": 1001, "path": "/k", "object": name}, {"frame": 1001, "path": "/l", "object": "hero"}]
    assert set(refused(request(keys=keys), facts())) == {f"key {name}"}


def test_a_lone_object_is_called_matte() -> None:
    assert make(request(), facts()).objects() == ("matte",)


def test_keys_are_asked_for_by_tasks_that_need_them_and_refused_by_those_that_take_none() -> None:
    assert "at least 1" in refused(request(keys=[]), facts(keys=()))["keys"].message
    assert "takes no" in refused(request(), facts(), definition=KEYLESS)["keys"].message
    assert make(request(keys=[]), facts(keys=()), definition=KEYLESS).keys == ()


def test_a_key_on_a_frame_that_a_stepped_range_leaves_out_is_refused() -> None:
    keys = [{"frame": 1002, "path": "/k"}]
    assert set(refused(request(keys=keys), facts(frames="1001-1009x2"))) == {"key matte:1002"}


def test_a_cut_that_never_meets_the_plate_says_so() -> None:
    found = refused(request(), facts(frames="", edit=edit(first=86400, last=86410)))
    assert "86400-86410" in found["clip sh020"].message
    assert "1001-1010" in found["clip sh020"].message


def test_the_edit_travels_with_its_hash_and_its_cuts() -> None:
    spec = make(request(cut="/cut.otio", clip="sh020"), facts(edit=edit(), cut_sha256="ef"))
    assert (spec.cuts, spec.cut_path, spec.cut_sha256) == ((1005,), "/cut.otio", "ef")
    assert spec.edit is not None
    assert EditContext.from_json(spec.edit) == EditContext.from_json(edit())


def test_a_plate_survives_its_text() -> None:
    plate = Plate(
        FramePattern(Path("/a b"), "x.", 5, ".exr"), FrameRange.parse("-3-4,9"),
        (Layer("", ("R", "G", "B", "A")), Layer("crypto00", ("R", "G"), 1)), Window(-4, -2, 99, 49), Window(0, 0, 89, 44),
        "lin_ap1_scene", FrameRate(Fraction(24000, 1001)), "01:00:00:00",
    )  # fmt: skip
    text = PlateSpec.of(plate, "logc3")
    assert PlateSpec.model_validate_json(text.model_dump_json()).plate() == plate


@pytest.mark.parametrize(
    "bad",
    [
        {"priority": 101}, {"handles": -1}, {"codec": "dwaa"}, {"chunk_frames": 0}, {"pool": "no space"},
        {"keys": [{"frame": 1, "path": ""}]}, {"colour": "red"}, {"parameters": {"strength": float("nan")}, "rate": 24},
    ],
)  # fmt: skip
def test_a_request_of_the_wrong_shape_never_gets_as_far_as_its_files(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        request(**bad)


def test_what_is_asked_goes_before_the_cut_and_the_cut_before_the_plate() -> None:
    on_disk = FrameRange.parse("1001-1004,1007-1010")
    context = EditContext.from_json(edit(first=995, last=1008))
    assert str(frames_to_deliver(request(frames="1001-1009x2"), context, on_disk)) == "1001-1009x2"
    assert str(frames_to_deliver(request(), context, on_disk)) == "1001-1008", "a hole inside is a fault, found later"
    assert str(frames_to_deliver(request(), None, on_disk)) == "1001-1010"
