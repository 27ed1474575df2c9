"""A parameter's declaration is right or refused at import; a form is plain JSON that changes when it does."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ParameterError
from pipeline.parameters import Box, Color, Kind, Parameters, Point, Stroke, describe, parameter, validate


class Everything(Parameters):
    """One parameter of every kind."""

    count: int = parameter(3, min=0, max=9, help="How many.")
    amount: float = parameter(0.5, min=0.0, max=1.0, unit="px", group="Edge", help="How much.")
    flag: bool = parameter(False, help="Whether.")
    words: str = parameter("", help="What.")
    pick: Literal["soft", "hard"] = parameter("soft", help="Which.")
    seed: int | None = parameter(None, kind=Kind.SEED, min=0, help="Start of chance.")
    tint: Color = parameter((0.0, 1.0, 0.0), kind=Kind.COLOR, help="The screen.")
    at: Point | None = parameter(None, kind=Kind.POINT, help="Where.")
    clicks: tuple[Point, ...] = parameter((), kind=Kind.POINTS, help="Where, often.")
    inside: Box | None = parameter(None, kind=Kind.BOX, help="Inside this.")
    garbage: str | None = parameter(None, kind=Kind.MASK, help="Leave out.")
    board: str | None = parameter(None, kind=Kind.REFERENCE, help="Looks like.")
    clean: str | None = parameter(None, kind=Kind.PLATE, help="Clean plate.")
    track: str | None = parameter(None, kind=Kind.AUDIO, help="Driven by.")
    brush: tuple[Stroke, ...] = parameter((), kind=Kind.STROKE, help="Moves like.")
    weights: str | None = parameter(None, kind=Kind.MODEL, help="Paints like.")


def test_every_kind_can_be_declared_and_described() -> None:
    form = describe(Everything)
    assert {entry["kind"] for entry in form["parameters"]} == {str(kind) for kind in Kind}
    assert json.loads(json.dumps(form)) == form


def test_the_form_version_changes_when_the_form_does() -> None:
    class One(Parameters):
        size: int = parameter(1, help="Size.")

    class Same(Parameters):
        size: int = parameter(1, help="Size.")

    class Other(Parameters):
        size: int = parameter(2, help="Size.")

    assert describe(One)["form_version"] == describe(Same)["form_version"] != describe(Other)["form_version"]


@pytest.mark.parametrize(
    ("annotation", "declaration"),
    [
        (int, {"default": 5, "min": 6, "help": "x"}),
        (int, {"default": 1, "min": 3, "max": 2, "help": "x"}),
        (int, {"default": None, "help": "x"}),
        (int, {"default": "one", "help": "x"}),
        (int, {"default": 1, "help": " "}),
        (int, {"default": 1, "kind": Kind.SEED, "help": "x"}),
        (str, {"default": "", "min": 0, "help": "x"}),
        (float, {"default": 1.0, "max": float("inf"), "help": "x"}),
        (dict, {"default": {}, "help": "x"}),
        (str, {"default": "", "kind": Kind.COLOR, "help": "x"}),
        (Literal["a", "b"], {"default": "c", "help": "x"}),
        (Literal[1, 2], {"default": 1, "help": "x"}),
        (int | None, {"help": "x"}),
    ],
)
def test_a_contradictory_declaration_is_refused_when_declared(annotation: Any, declaration: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        type(
            "Broken",
            (Parameters,),
            {"__annotations__": {"value": annotation}, "value": parameter(**declaration), "__module__": __name__},
        )


def test_all_faults_are_told_at_once() -> None:
    value, faults = validate(Everything, {"count": 99, "pick": "round", "colour": 1, "amount": float("nan")})
    assert value is None
    assert {fault.where for fault in faults} == {
        "parameter count",
        "parameter pick",
        "parameter colour",
        "parameter amount",
    }
    assert all(fault.hint for fault in faults)


def test_a_deliberate_zero_is_a_value() -> None:
    value, _ = validate(Everything, {"seed": 0})
    assert isinstance(value, Everything)
    assert value.seed == 0
    unset, _ = validate(Everything, {})
    assert isinstance(unset, Everything)
    assert unset.seed is None


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "count": st.integers(0, 9),
            "amount": st.floats(0, 1),
            "flag": st.booleans(),
            "words": st.text(),
            "seed": st.none() | st.integers(0, 99),
        },
    )
)
def test_only_what_changed_needs_to_travel(changed: dict[str, Any]) -> None:
    value, faults = validate(Everything, changed)
    assert not faults
    assert value is not None
    again, _ = validate(Everything, json.loads(json.dumps(value.model_dump(mode="json"))))
    assert again == value


def test_a_text_of_a_book_is_refused() -> None:
    class Prompted(Parameters):
        prompt: str = parameter("", help="What it shall be.")

    parameters, faults = validate(Prompted, {"prompt": "x" * 5000})
    assert parameters is None
    assert [(f.where, f.message, f.hint) for f in faults] == [
        ("parameter prompt", "is 5000 characters long", "allowed: up to 4096")
    ]
