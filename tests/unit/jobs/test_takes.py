"""From one request to its takes: wedges, seeds, curves, windows, and what is refused before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.edit.context import EditContext
from pipeline.errors import Fault, PublishError, SubmissionRefused
from pipeline.frames import FrameRange
from pipeline.jobs.resolve import Defaults, bounds_for, frames_to_deliver, resolve
from pipeline.jobs.spec import (
    MOST_TAKES,
    InputSpec,
    JobRequest,
    JobSpec,
    ModelSpec,
    PlateSpec,
    SubmissionFacts,
    TakeFacts,
)
from pipeline.parameters import Kind, Parameters, parameter
from pipeline.plate import Window
from pipeline.rate import FrameRate
from pipeline.tasks.definition import Bound, TaskDefinition


class _Knobs(Parameters):
    strength: float = parameter(0.5, min=0, max=1, help="How much.")
    size: int = parameter(1, help="How large.")
    wider: int = parameter(0, help="How far beyond the plate.")
    mode: str = parameter("a", help="Which way.")
    matte: str | None = parameter(None, kind=Kind.MASK, help="Where.")
    seed: int | None = parameter(None, kind=Kind.SEED, help="Start of chance.")


def grown(parameters: Parameters, data: Window, display: Window) -> tuple[Window, Window]:
    by = parameters.wider  # type: ignore[attr-defined]
    if by == 77:
        raise PublishError("this width is not for you", "take another")
    return tuple(Window(w.x_min - by, w.y_min - by, w.x_max + by, w.y_max + by) for w in (data, display))  # type: ignore[return-value]


TASK = TaskDefinition(
    name="growing", label="Growing", help="Makes more.", parameters=_Knobs, runner="a:B", product="p", windows=grown,
    default_model="net-1", bounds={"confidence": Bound(least=0.1), "drift": Bound(most=4)},
)  # fmt: skip
PLATE = PlateSpec(
    pattern="/plates/sh010.####.exr", frames="1001-1010", layers=(("", ("R", "G", "B"), 0),), data_window=(0, 0, 63, 31),
    display_window=(0, 0, 63, 31), colorspace="lin_rec709_scene", source_colorspace="lin_rec709_scene", rate="24",
)  # fmt: skip
DEFAULTS = Defaults(studio="acme", show="film", publish_root=Path("/publish"))


def request(**more: Any) -> JobRequest:
    return JobRequest.model_validate({"task": "growing", "plate": "/plates", **more})


def make(*, found: tuple[TakeFacts, ...] = (), draws: int = 1, defaults: Defaults = DEFAULTS, **more: Any) -> JobSpec:
    facts = SubmissionFacts(plate=PLATE, frames="1001-1010", takes=found)
    drawn = [1000 + i for i in range(draws)]
    return resolve(request(**more), facts, TASK, defaults=defaults, draw_seed=lambda: drawn.pop(0))


def refused(**more: Any) -> dict[str, Fault]:
    with pytest.raises(SubmissionRefused) as error:
        make(**more)
    return {fault.where: fault for fault in error.value.faults}


def test_a_request_that_names_no_takes_has_one() -> None:
    (take,) = make(parameters={"strength": 0.25}).takes
    assert (take.index, take.name, take.parameters["strength"]) == (0, "take-1", 0.25)


def test_takes_lie_over_the_requests_parameters_and_model() -> None:
    asked = request(
        parameters={"strength": 0.25, "size": 3}, model="net-2",
        takes=[{}, {"name": "big", "parameters": {"size": 9}}, {"model": "net-3"}, {"model": ""}],
    ).asked_takes()  # fmt: skip
    assert [take.name for take in asked] == ["take-1", "big", "take-3", "take-4"]
    assert [take.parameters for take in asked] == [{"strength": 0.25, "size": size} for size in (3, 9, 3, 3)]
    assert [take.model for take in asked] == ["net-2", "net-2", "net-3", ""]


def test_a_wedge_makes_every_combination_in_the_order_in_which_it_is_written() -> None:
    asked = request(wedge={"strength": [0, 1], "model": ["/w/x.onnx", "net-1"]}, parameters={"size": 2}).asked_takes()
    assert [take.name for take in asked] == [
        "strength=0 model=x.onnx", "strength=0 model=net-1", "strength=1 model=x.onnx", "strength=1 model=net-1",
    ]  # fmt: skip
    assert [take.parameters for take in asked] == [{"size": 2, "strength": s} for s in (0, 0, 1, 1)]
    assert [take.model for take in asked] == ["/w/x.onnx", "net-1"] * 2


@given(st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_a_wedge_has_each_combination_once(counts: list[int]) -> None:
    names = ["strength", "size", "mode"][: len(counts)]
    wedge = {name: [f"{name}{i}" for i in range(count)] for name, count in zip(names, counts, strict=True)}
    asked = request(wedge=wedge).asked_takes()
    seen = {tuple(take.parameters[name] for name in names) for take in asked}
    total = 1
    for count in counts:
        total *= count
    assert len(asked) == len(seen) == total == len({take.name for take in asked})


@pytest.mark.parametrize(
    ("more", "where", "words"),
    [
        ({"takes": [{}], "wedge": {"size": [1]}}, "takes", "beside a wedge"),
        ({"wedge": {"size": []}}, "wedge", "without values"),
        (
            {"wedge": {"size": list(range(9)), "strength": [0.1 * i for i in range(8)]}},
            "wedge",
            f"more than {MOST_TAKES}",
        ),
    ],
)
def test_takes_that_make_no_sense_are_refused_whole(more: dict[str, Any], where: str, words: str) -> None:
    assert words in refused(**more)[where].message


def test_the_most_takes_are_taken() -> None:
    spec = make(wedge={"size": list(range(8)), "strength": [0.1 * i for i in range(8)]})
    assert [take.index for take in spec.takes] == list(range(MOST_TAKES))


def test_a_fault_of_one_take_says_which() -> None:
    faults = refused(wedge={"strength": [0.5, 2]})
    assert list(faults) == ["take strength=2: parameter strength"]
    assert list(refused(parameters={"strength": 2})) == ["parameter strength"], "a job of one take needs no name for it"


def test_a_wedge_over_a_parameter_that_is_not_there_is_refused() -> None:
    assert all("no such parameter" in fault.message for fault in refused(wedge={"depth": [1, 2]}).values())


# Seeds


def test_takes_that_name_no_seed_share_one_that_is_drawn() -> None:
    assert [take.seed for take in make(wedge={"size": [1, 2, 3]}, draws=1).takes] == [1000] * 3


def test_a_given_seed_is_kept_and_none_is_drawn() -> None:
    assert [take.seed for take in make(wedge={"seed": [7, 8]}, draws=0).takes] == [7, 8]
    spec = make(takes=[{"parameters": {"seed": 5}}, {}], draws=1)
    assert [take.seed for take in spec.takes] == [5, 1000]


@pytest.mark.parametrize("seed", [0, -1, -2])
def test_a_seed_is_given_whatever_its_number_is(seed: int) -> None:
    (take,) = make(parameters={"seed": seed}, draws=0).takes
    assert take.seed == seed


@pytest.mark.parametrize("text", ["3", "v3", "v12345", "V003", "v003 ", "../v003"])
def test_what_is_no_version_gives_no_seed(text: str) -> None:
    with pytest.raises(ValueError, match="seed_from"):
        request(seed_from=text)


# Curves


def test_a_keyed_number_has_a_value_on_every_delivered_frame() -> None:
    (take,) = make(parameters={"strength": {"keys": {"1003": 0, "1005": 1}}}).takes
    assert take.curves == {"strength": dict(zip(range(1001, 1011), [0, 0, 0, 0.5, 1, 1, 1, 1, 1, 1], strict=True))}
    assert take.parameters["strength"] == 0
    assert JobSpec.model_validate_json(make().model_dump_json()) == make()


def test_a_sound_drives_with_what_was_heard_when_the_job_was_submitted() -> None:
    heard = {frame: (frame - 1001) / 9 for frame in range(1001, 1011)}
    asked = {"strength": {"audio": "/a.wav", "low": 1, "high": 0.5}}
    (take,) = make(parameters=asked, found=(TakeFacts(sound={"strength": heard}),)).takes
    assert take.curves["strength"][1001] == 1
    assert take.curves["strength"][1010] == pytest.approx(0.5)
    assert set(take.curves["strength"]) == set(range(1001, 1011))


def test_takes_may_wedge_curves_against_numbers() -> None:
    spec = make(wedge={"strength": [0.3, {"keys": {"1001": 1}}]})
    assert [bool(take.curves) for take in spec.takes] == [False, True]


def test_each_take_has_what_was_found_for_it() -> None:
    found = tuple(
        TakeFacts(
            inputs={"matte": InputSpec(path=f"/m{i}.exr", digests={f"m{i}.exr": str(i)})},
            model=ModelSpec(name=f"net-{i}", path=f"/w/net-{i}.onnx", sha256=str(i) * 64, family="onnx"),
            weights={"more": "ab" * 32},
        )
        for i in range(2)
    )
    spec = make(wedge={"matte": ["/m0.exr", "/m1.exr"]}, found=found)
    assert [take.inputs["matte"].path for take in spec.takes] == ["/m0.exr", "/m1.exr"]
    assert [take.identity for take in spec.takes] == [f"net-{i}.onnx@{str(i) * 12}+more@abababababab" for i in range(2)]
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec


# Windows


def test_windows_are_said_only_where_they_are_not_the_plates() -> None:
    plain, wide = make(wedge={"wider": [0, 8]}).takes
    assert (plain.data_window, plain.display_window) == (None, None)
    assert wide.data_window == (-8, -8, 71, 39)
    plate = PLATE.plate()
    assert plain.windows(plate) == (plate.data_window, plate.display_window)
    assert wide.windows(plate) == (Window(-8, -8, 71, 39),) * 2


@pytest.mark.parametrize(("wider", "words"), [(-1, "would deliver"), (20_000, "would deliver"), (77, "not for you")])
def test_windows_that_lose_pixels_of_the_plate_or_fill_a_disk_are_refused(wider: int, words: str) -> None:
    assert words in refused(parameters={"wider": wider})["parameters"].message


# Bounds


BOUNDS = {
    "*": {"*": {"confidence": Bound(least=0.2), "flicker": Bound(most=9)}, "growing": {"flicker": Bound(most=8)}},
    "film": {"*": {"flicker": Bound(most=7), "noise": Bound(most=1)}, "roto": {"confidence": Bound(least=0.9)}},
}


def test_the_nearer_word_of_a_show_counts() -> None:
    assert bounds_for(BOUNDS, "film", "growing") == {
        "confidence": Bound(least=0.2), "flicker": Bound(most=7), "noise": Bound(most=1),
    }  # fmt: skip
    assert bounds_for(BOUNDS, "film", "roto")["confidence"] == Bound(least=0.9)
    assert bounds_for(BOUNDS, "other", "growing") == {"confidence": Bound(least=0.2), "flicker": Bound(most=8)}
    assert bounds_for({}, "film", "growing") == {}


def test_a_job_keeps_the_bounds_of_its_show_over_those_of_its_task() -> None:
    defaults = Defaults(studio="acme", show="film", publish_root=Path("/publish"), bounds=BOUNDS)
    assert make(defaults=defaults).bounds == {
        "confidence": Bound(least=0.2), "drift": Bound(most=4), "flicker": Bound(most=7), "noise": Bound(most=1),
    }  # fmt: skip
    assert make(defaults=defaults, show="other").bounds["flicker"] == Bound(most=8)
    assert make().bounds == {"confidence": Bound(least=0.1), "drift": Bound(most=4)}


# Frames that the plate lacks


def edit(head: int, tail: int, missing: tuple[tuple[int, int], ...] = ()) -> EditContext:
    return EditContext(
        clip="sh", shot="sh", media="/p.####.exr", rate=FrameRate.of("24"), cut_in=head, cut_out=tail, head_in=head,
        tail_out=tail, source_first=head, source_last=tail, available_first=1001, available_last=1010, missing=missing,
    )  # fmt: skip


AVAILABLE = FrameRange.span(1001, 1010)


def test_only_a_task_that_extends_delivers_what_the_cut_plays_beyond_the_plate() -> None:
    cut = edit(1003, 1010, missing=((1011, 1014),))
    assert str(frames_to_deliver(request(), cut, AVAILABLE)) == "1003-1010"
    assert str(frames_to_deliver(request(), cut, AVAILABLE, extends=True)) == "1003-1014"
    both = edit(1001, 1010, missing=((995, 1000), (1011, 1011)))
    assert str(frames_to_deliver(request(), both, AVAILABLE, extends=True)) == "995-1011"


def test_frames_that_are_named_are_delivered_whoever_extends() -> None:
    asked = request(frames="990,1005")
    assert str(frames_to_deliver(asked, edit(1001, 1010), AVAILABLE, extends=True)) == "990,1005"


def test_without_a_cut_nobody_knows_what_lies_beyond_the_plate() -> None:
    assert frames_to_deliver(request(), None, AVAILABLE, extends=True) == AVAILABLE
