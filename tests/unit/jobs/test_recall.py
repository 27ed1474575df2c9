"""Recall: a take's request again, from the spec alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.curves import KeyedCurve
from pipeline.edit.context import EditContext
from pipeline.errors import NotFoundError, SubmissionRefused
from pipeline.frames import FrameRange
from pipeline.jobs.recall import recalled
from pipeline.jobs.resolve import Defaults, resolve
from pipeline.jobs.spec import (
    InputSpec,
    JobRequest,
    JobSpec,
    KeySpec,
    ModelSpec,
    PlateSpec,
    SubmissionFacts,
    TakeFacts,
)
from pipeline.parameters import Kind, Parameters, parameter
from pipeline.rate import FrameRate
from pipeline.tasks.definition import TaskDefinition


class _Knobs(Parameters):
    strength: float = parameter(0.5, min=0, max=1, help="How much.")
    push: float = parameter(0.0, help="How far, without bounds.")
    size: int = parameter(1, help="How large.")
    on: bool = parameter(True, help="Whether.")
    words: str = parameter("", help="What.")
    tint: tuple[float, float, float] | None = parameter(None, kind=Kind.COLOR, help="Which colour.")
    strokes: tuple[tuple[tuple[int, float, float], ...], ...] = parameter((), kind=Kind.STROKE, help="Where.")
    matte: str | None = parameter(None, kind=Kind.MASK, help="Where.")


class _Seeded(_Knobs):
    seed: int | None = parameter(None, kind=Kind.SEED, min=0, max=2**31 - 1, help="Start of chance.")


def definition(knobs: type[Parameters]) -> TaskDefinition:
    return TaskDefinition(
        name="knobs", label="Knobs", help="Turns.", parameters=knobs, runner="a:B", product="p", default_model="own-1",
        keys_min=0,
    )  # fmt: skip


FRAMES = FrameRange.parse("1001-1006,1010")
PLATE = PlateSpec(
    pattern="/plates/sh010.####.dpx", frames=str(FRAMES), layers=(("", ("R", "G", "B"), 0),), data_window=(0, 0, 63, 31),
    display_window=(0, 0, 63, 31), colorspace="lin_rec709_scene", source_colorspace="srgb_rec709_scene", rate="24",
)  # fmt: skip
EDIT = EditContext(
    clip="sh010", shot="sh010", media="/plates/sh010.####.dpx", rate=FrameRate.of("24"), cut_in=1002, cut_out=1005,
    head_in=1001, tail_out=1010, source_first=1002, source_last=1005, cuts=(1004,), address="sh010#2",
).as_json()  # fmt: skip
DEFAULTS = Defaults(studio="acme", show="film", publish_root=Path("/publish"))
KEY = KeySpec(frame=1001, path="/keys/hero.1001.exr", object="hero", hash="ab", coverage=0.2)

finite = st.floats(allow_nan=False, allow_infinity=False)
unit = st.floats(0, 1)
keyed = st.fixed_dictionaries(
    {
        "keys": st.dictionaries(st.integers(990, 1020).map(str), unit, min_size=1, max_size=6),
        "interpolation": st.sampled_from(["linear", "smooth", "hold"]),
    }
)
driven = st.fixed_dictionaries({"audio": st.just("/sounds/drums.wav"), "low": unit, "high": unit})
coordinates = st.tuples(st.integers(1001, 1010), finite, finite)
knobs = st.fixed_dictionaries(
    {},
    optional={
        "strength": unit | keyed | driven,
        "push": finite
        | st.fixed_dictionaries({"keys": st.dictionaries(st.integers(990, 1020).map(str), finite, min_size=1)}),
        "size": st.integers(-(2**40), 2**40),
        "on": st.booleans(),
        "words": st.text(max_size=20),
        "tint": st.none() | st.tuples(finite, finite, finite),
        "strokes": st.lists(st.lists(coordinates, max_size=3), max_size=2),
        "matte": st.none() | st.just("/mattes/link.####.exr"),
    },
)
models = st.sampled_from(
    [
        ModelSpec(name="own-1"),
        ModelSpec(name="net", path="/weights/net.safetensors", family="unet", sha256="a" * 64),
        ModelSpec(name="net", path="/weights/net.safetensors", family="unet", sha256="b" * 64, card="look@v003"),
    ]
)


@st.composite
def found_takes(draw: st.DrawFn, parameters: dict[str, Any], model: ModelSpec) -> TakeFacts:
    """What an intake would find of a take: sounds measured, paths followed."""
    loudness = {frame: draw(unit) for frame in FRAMES}
    sound = {name: loudness for name, value in parameters.items() if isinstance(value, dict) and "audio" in value}
    inputs = {"matte": InputSpec(path="/mattes/real.####.exr", digests={"real.1001.exr": "cd"})}
    return TakeFacts(inputs=inputs if parameters.get("matte") else {}, sound=sound, model=model)


def found_again(spec: JobSpec, asked: JobRequest, of: TakeFacts) -> SubmissionFacts:
    """What an intake finds when the same files lie there: weights and inputs by what the new request names."""
    assert asked.model in (of.model.name, of.model.path, of.model.card)
    return SubmissionFacts(
        plate=spec.plate, frames=str(FrameRange.parse(asked.frames or "")), keys=spec.keys, edit=spec.edit,
        cut_sha256=spec.cut_sha256, takes=(TakeFacts(inputs=of.inputs, model=of.model),), hashes=spec.input_hashes,
    )  # fmt: skip


def make(asked: JobRequest, facts: SubmissionFacts, seeded: bool, draw: int | None) -> JobSpec:
    drawn = [] if draw is None else [draw]
    task = definition(_Seeded if seeded else _Knobs)
    return resolve(asked, facts, task, defaults=DEFAULTS, draw_seed=drawn.pop)


@given(data=st.data(), seeded=st.booleans(), given_seed=st.none() | st.integers(0, 2**31 - 1), cut=st.booleans())
def test_a_recalled_take_is_the_same_take(data: st.DataObject, seeded: bool, given_seed: int | None, cut: bool) -> None:
    takes = data.draw(st.lists(st.tuples(knobs, models), min_size=1, max_size=3))
    if seeded and given_seed is not None:
        takes = [({**parameters, "seed": given_seed}, model) for parameters, model in takes]
    of_takes = tuple(data.draw(found_takes(parameters, model)) for parameters, model in takes)
    asked = JobRequest.model_validate(
        {
            "task": "knobs", "plate": "/plates", "show": "film", "sequence": data.draw(st.sampled_from([None, "sq1"])),
            "shot": data.draw(st.sampled_from([None, "sh7"])), "pool": data.draw(st.sampled_from(["default", "gpu"])),
            "codec": data.draw(st.sampled_from(["zips", "piz"])), "chunk_frames": data.draw(st.none() | st.integers(1, 50)),
            "handles": data.draw(st.integers(0, 20)), "use": data.draw(st.sampled_from(["", "final"])),
            "cut": "/cuts/film.otio" if cut else None, "keys": [{"frame": 1001, "path": KEY.path, "object": "hero"}],
            "takes": [{"parameters": parameters} for parameters, _ in takes],
        }
    )  # fmt: skip
    facts = SubmissionFacts(
        plate=PLATE, frames=str(FRAMES), keys=(KEY,), edit=EDIT if cut else None, cut_sha256="ef" if cut else None,
        takes=of_takes, hashes={1001: "01"},
    )  # fmt: skip
    spec = make(asked, facts, seeded, data.draw(st.integers(0, 2**31 - 1)))
    spec = JobSpec.model_validate_json(spec.model_dump_json())

    for number, (take, of) in enumerate(zip(spec.takes, of_takes, strict=True)):
        request = JobRequest.model_validate_json(recalled(spec, number).model_dump_json())
        # No seed is left to draw, so nothing is there to be drawn.
        again = make(request, found_again(spec, request, of), seeded, None)
        same = {"index": 0, "name": "take-1", "parameters": {**take.parameters, **_real(take.parameters)}}
        assert again.takes == (take.model_copy(update=same),)
        of_the_job = {"takes", "model", "use"}
        assert again.model_dump(exclude=of_the_job) == spec.model_dump(exclude=of_the_job)


def _real(parameters: dict[str, Any]) -> dict[str, Any]:
    return {"matte": "/mattes/real.####.exr"} if parameters["matte"] else {}


def recall(changes: dict[str, Any] | None = None, **asked: Any) -> JobRequest:
    request = JobRequest.model_validate({"task": "knobs", "plate": "/plates", **asked})
    of = TakeFacts(model=ModelSpec(name="own-1"))
    facts = SubmissionFacts(plate=PLATE, frames=str(FRAMES), keys=(), edit=EDIT if request.cut else None, takes=(of,))
    return recalled(make(request, facts, False, 7), 0, changes=changes or {})


def test_the_place_is_named_in_full() -> None:
    request = recall(cut="/cuts/film.otio", handles=3, sequence="sq1")
    assert (request.cut, request.clip, request.handles) == ("/cuts/film.otio", "sh010#2", 3)
    assert (request.show, request.sequence, request.shot) == ("film", "sq1", "sh010")
    assert (request.plate, request.frames) == (PLATE.pattern, str(FRAMES))
    assert (request.colorspace, request.rate, request.seed) == ("srgb_rec709_scene", "24", 7)


def test_changes_lie_over_the_takes_parameters() -> None:
    request = recall(
        {"size": 5, "strength": 0.75}, parameters={"strength": {"keys": {"1001": 0, "1006": 1}}, "words": "x"}
    )
    assert (request.parameters["size"], request.parameters["strength"], request.parameters["words"]) == (5, 0.75, "x")


def test_a_curve_comes_back_keyed_on_each_of_its_frames() -> None:
    curve = recall(parameters={"strength": {"keys": {"1001": 0, "1006": 1}, "interpolation": "smooth"}}).parameters[
        "strength"
    ]
    assert [*map(int, curve["keys"])] == [*FRAMES]
    asked = KeyedCurve(keys={1001: 0, 1006: 1}, interpolation="smooth")
    assert [KeyedCurve.model_validate(curve).at(frame) for frame in FRAMES] == [asked.at(frame) for frame in FRAMES]


def test_a_take_that_is_not_there_is_told() -> None:
    request = JobRequest(task="knobs", plate="/plates")
    spec = make(request, SubmissionFacts(plate=PLATE, frames=str(FRAMES)), False, 7)
    for number in (1, -1):
        with pytest.raises(NotFoundError, match=f"no take {number}"):
            recalled(spec, number)


def test_a_seed_beside_another_versions_is_refused() -> None:
    with pytest.raises(SubmissionRefused, match="seed: is given beside seed_from"):
        recall(seed=4, seed_from="v003")


def test_a_parameters_seed_counts_before_the_requests() -> None:
    facts = SubmissionFacts(plate=PLATE, frames=str(FRAMES))
    asked = {"task": "knobs", "plate": "/plates", "seed": 4}
    assert make(JobRequest.model_validate(asked), facts, True, None).takes[0].seed == 4
    named = {**asked, "parameters": {"seed": 9}}
    assert make(JobRequest.model_validate(named), facts, True, None).takes[0].seed == 9
