"""What the command line makes of curves, strokes and wedges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import click
import pytest

from farm.cli.options import common_options, request_body, task_options
from pipeline.errors import SubmissionRefused
from pipeline.parameters import Kind, Parameters, Stroke, parameter
from pipeline.tasks.definition import TaskDefinition


class _Knobs(Parameters):
    amount: float = parameter(0.5, min=0, max=4, help="How much.")
    whole: float = parameter(0.5, keyable=False, help="Of the whole shot.")
    count_px: int = parameter(1, min=0, help="How many.")
    on: bool = parameter(True, help="Whether.")
    mode: Literal["a", "b"] = parameter("a", help="Which way.")
    strokes: tuple[Stroke, ...] = parameter((), kind=Kind.STROKE, help="Where.")
    matte: str | None = parameter(None, kind=Kind.MASK, help="Where else.")


TASK = TaskDefinition(name="asking", label="A", help="h", parameters=_Knobs, runner="a:B", product="a")


def body(*arguments: str) -> dict[str, Any]:
    """The request of a command line."""
    command = click.Command("asking", params=[*common_options(), *task_options(TASK)])
    context = command.make_context("asking", ["--plate", "/p", *arguments])
    made = request_body(TASK, context.params)
    json.dumps(made, allow_nan=False)
    return made


def parameters(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = body(*arguments)["parameters"]
    return found


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("0.5", 0.5), ("1001:0,1024:1", {"keys": {"1001": 0.0, "1024": 1.0}}), ("-2:1", {"keys": {"-2": 1.0}}),
        ("1001:-0.5", {"keys": {"1001": -0.5}}), (" 1001 : 1 , 1002:2", {"keys": {"1001": 1.0, "1002": 2.0}}),
        ("smooth:1:0,2:1", {"keys": {"1": 0.0, "2": 1.0}, "interpolation": "smooth"}),
        ("hold:1:0", {"keys": {"1": 0.0}, "interpolation": "hold"}),
        ("linear:1:0", {"keys": {"1": 0.0}, "interpolation": "linear"}),
        ("audio:/a/b.wav:0:2", {"audio": "/a/b.wav", "measure": "amplitude", "low": 0.0, "high": 2.0}),
        ("beat:/a:b/c.wav:1:-1", {"audio": "/a:b/c.wav", "measure": "beat", "low": 1.0, "high": -1.0}),
    ],
)  # fmt: skip
def test_a_number_or_a_curve_of_it(text: str, read: Any) -> None:
    assert parameters(f"--amount={text}") == {"amount": read}


@pytest.mark.parametrize(
    "text",
    ["", "x", "9", "1001:", ":1", "a:1", "1.5:1", "1001:0,", "1001:0,1002", "1001:0,1001:1", "1:0,01:1", "1001:nan",
     "1001:inf", "cubic:1:0", "smooth:", "audio:", "audio:x", "audio:x:0", "audio:x:a:b", "nan:1"],
)  # fmt: skip
def test_what_is_neither_is_refused_as_the_option_that_it_is(text: str) -> None:
    with pytest.raises(click.BadParameter) as error:
        parameters("--amount", text)
    assert error.value.param is not None
    assert error.value.param.name == "param_amount"


def test_a_number_that_can_not_be_keyed_takes_no_curve() -> None:
    with pytest.raises(click.BadParameter):
        parameters("--whole", "1001:0,1002:1")
    assert parameters("--whole", "0.25") == {"whole": 0.25}


def test_a_sounds_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parameters("--amount", "audio:drums.wav:0:1")["amount"]["audio"] == str(tmp_path / "drums.wav")


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("1001,10,20.5", [[[1001, 10.0, 20.5]]]), ("1,2,3;2,3,4", [[[1, 2.0, 3.0], [2, 3.0, 4.0]]]),
        ("1,2,3|5,6,7;6,7,8", [[[1, 2.0, 3.0]], [[5, 6.0, 7.0], [6, 7.0, 8.0]]]), ("-3,0,-1|", [[[-3, 0.0, -1.0]]]),
    ],
)  # fmt: skip
def test_strokes(text: str, read: Any) -> None:
    found = parameters(f"--strokes={text}")
    assert found == {"strokes": read}
    assert _Knobs.model_validate(found).strokes


@pytest.mark.parametrize("text", ["1,2", "1,2,3,4", "a,1,2", "1.5,1,2", "1,2,x", "1 2 3"])
def test_what_is_no_stroke_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        parameters("--strokes", text)


def test_a_wedge_reads_each_value_as_its_own_option_would() -> None:
    asked = body(
        "--wedge", "amount=0.5,2", "--wedge", "count-px=1,2,3", "--wedge", "on=true,false", "--wedge", "mode=a,b"
    )
    assert asked["wedge"] == {"amount": [0.5, 2.0], "count_px": [1, 2, 3], "on": [True, False], "mode": ["a", "b"]}
    assert asked["parameters"] == {}


def test_a_wedge_over_paths_and_models_makes_them_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked = body("--wedge", "matte=m.exr,/x/n.exr", "--wedge", "model=net-1,w/net.onnx,net.onnx")
    assert asked["wedge"] == {
        "matte": [str(tmp_path / "m.exr"), "/x/n.exr"], "model": ["net-1", str(tmp_path / "w" / "net.onnx"), str(tmp_path / "net.onnx")],
    }  # fmt: skip


@pytest.mark.parametrize(
    "text", ["amount", "amount=", "amount=x", "amount=9", "depth=1,2", "=1", "mode=a,c", "on=perhaps"]
)
def test_a_wedge_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(SubmissionRefused) as error:
        body("--wedge", text)
    assert [fault.where for fault in error.value.faults] == [f"--wedge {text}"]


def test_a_curve_in_a_wedge_is_not_torn_into_takes() -> None:
    with pytest.raises(SubmissionRefused, match=r"amount=1001:0,1024:1"):
        body("--wedge", "amount=1001:0,1024:1")
    sounds = body("--wedge", "amount=audio:/a.wav:0:1,audio:/b.wav:0:1")["wedge"]["amount"]
    assert [curve["audio"] for curve in sounds] == ["/a.wav", "/b.wav"]


def test_every_fault_of_the_wedges_is_told_and_a_name_that_comes_twice_is_one() -> None:
    with pytest.raises(SubmissionRefused) as error:
        body(
            "--wedge",
            "amount=1",
            "--wedge",
            "amount=2",
            "--wedge",
            "count_px=1",
            "--wedge",
            "count-px=2",
            "--wedge",
            "x=1",
        )
    assert [fault.where for fault in error.value.faults] == ["--wedge amount=2", "--wedge count-px=2", "--wedge x=1"]


def test_what_was_not_given_does_not_travel() -> None:
    assert body() == {"task": "asking", "plate": "/p", "parameters": {}}
    assert body("--seed-from", "v003")["seed_from"] == "v003"
    assert body("--model", "net-1")["model"] == "net-1"
