"""A number over frames: what it is on each of them, and which curves no parameter takes."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.curves import AudioCurve, KeyedCurve, read_curve, value_range
from pipeline.errors import Fault, ParameterError
from pipeline.parameters import Kind, Parameters, describe, for_fit, parameter, validate_keyed

WAYS = ("linear", "smooth", "hold")
values = st.floats(-1e6, 1e6)
key_sets = st.dictionaries(st.integers(-500, 2000), values, min_size=1, max_size=12)
curves = st.builds(KeyedCurve, keys=key_sets, interpolation=st.sampled_from(WAYS))


def test_straight_lines_run_between_the_keys_and_the_ends_hold() -> None:
    curve = KeyedCurve(keys={1001: 2.0, 1005: 4.0, 1006: -1.0})
    assert [curve.at(f) for f in (900, 1001, 1002, 1003, 1005, 1006, 5000)] == [2, 2, 2.5, 3, 4, -1, -1]


def test_smooth_eases_in_and_out_and_meets_the_line_in_the_middle() -> None:
    curve = KeyedCurve(keys={0: 0.0, 10: 1.0}, interpolation="smooth")
    assert curve.at(5) == 0.5
    assert curve.at(1) == pytest.approx(3 * 0.01 - 2 * 0.001)
    assert curve.at(1) < 0.1
    assert curve.at(9) > 0.9
    assert curve.at(1) + curve.at(9) == pytest.approx(1)


def test_hold_keeps_each_value_until_the_next_key() -> None:
    curve = KeyedCurve(keys={10: 1.0, 20: 2.0}, interpolation="hold")
    assert [curve.at(f) for f in (0, 10, 19, 20, 21)] == [1, 1, 1, 2, 2]


def test_the_order_in_which_keys_are_written_does_not_matter() -> None:
    there = read_curve({"keys": {"1001": 0, "1010": 9, "1005": 1}})
    back = read_curve({"keys": {"1010": 9, "1005": 1, "1001": 0}})
    assert isinstance(there, KeyedCurve)
    assert isinstance(back, KeyedCurve)
    assert [there.at(f) for f in range(995, 1015)] == [back.at(f) for f in range(995, 1015)]


@given(curves)
def test_a_curve_goes_through_its_keys(curve: KeyedCurve) -> None:
    assert all(curve.at(frame) == value for frame, value in curve.keys.items())


@given(curves, st.integers(-1000, 3000))
def test_a_curve_never_leaves_the_values_of_the_keys_on_either_side(curve: KeyedCurve, frame: int) -> None:
    before = [k for k in curve.keys if k <= frame]
    after = [k for k in curve.keys if k >= frame]
    near = [curve.keys[k] for k in ([max(before)] if before else []) + ([min(after)] if after else [])]
    slack = 1e-9 * max(1, *map(abs, near))
    assert min(near) - slack <= curve.at(frame) <= max(near) + slack


@given(curves, st.integers(-1000, 3000))
def test_a_curve_keeps_to_the_range_that_is_checked_against_the_bounds(curve: KeyedCurve, frame: int) -> None:
    low, high = value_range(curve)
    slack = 1e-9 * max(1, abs(low), abs(high))
    assert low - slack <= curve.at(frame) <= high + slack


@given(curves)
def test_a_curve_survives_its_json_and_being_asked(curve: KeyedCurve) -> None:
    curve.at(1001)
    assert read_curve(curve.model_dump(mode="json")) == curve


def test_a_long_curve_over_a_long_shot_is_sampled_at_once() -> None:
    """The dispatcher samples it while somebody waits for the answer."""
    curve = KeyedCurve(keys={frame * 3: float(frame % 7) for frame in range(10_000)})
    started = time.process_time()
    assert len({curve.at(frame) for frame in range(20_000)}) > 7
    assert time.process_time() - started < 0.4


@given(values, values, st.dictionaries(st.integers(0, 99), st.floats(0, 1), max_size=9))
def test_a_sound_drives_between_its_two_values_whichever_is_the_higher(
    low: float, high: float, loud: dict[int, float]
) -> None:
    curve = AudioCurve(audio="a.wav", low=low, high=high)
    driven = curve.of(loud)
    assert set(driven) == set(loud)
    slack = 1e-9 * max(1, abs(low), abs(high))
    assert all(min(low, high) - slack <= value <= max(low, high) + slack for value in driven.values())
    assert curve.of({1: 0.0, 2: 1.0}) == {1: low, 2: pytest.approx(high, abs=slack)}
    assert value_range(curve) == (min(low, high), max(low, high))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ({}, "keys"), ({"keys": {}}, "keys"), ({"keys": {"a": 1}}, "keys.a"), ({"keys": {"1.5": 1}}, "keys.1.5"),
        ({"keys": {"1": "x"}}, "keys.1"), ({"keys": {"1": math.nan}}, "keys.1"), ({"keys": {"1": math.inf}}, "keys.1"),
        ({"keys": {"1": None}}, "keys.1"), ({"keys": [1, 2]}, "keys"), ({"keys": {"1": 1}, "ease": 1}, "ease"),
        ({"keys": {"1": 1}, "interpolation": "cubic"}, "interpolation"), ({"audio": ""}, "audio"),
        ({"audio": "a.wav", "keys": {"1": 1}}, "keys"), ({"audio": "a.wav", "decay_s": 0}, "decay_s"),
        ({"audio": "a.wav", "offset_s": -1}, "offset_s"), ({"audio": "a.wav", "high": math.inf}, "high"),
        ({"audio": "a.wav", "measure": "pitch"}, "measure"), ({"audio": 3}, "audio"),
        ({"keys": {str(i): 0 for i in range(10_001)}}, "keys"),
    ],
)  # fmt: skip
def test_what_is_no_curve_is_refused_with_the_place(text: dict[str, Any], names: str) -> None:
    with pytest.raises(ParameterError) as error:
        read_curve(text)
    assert f"the curve's {names}" in error.value.message
    assert "1001" in error.value.hint


# Among a task's parameters


class _Knobs(Parameters):
    amount: float = parameter(0.5, min=0, max=2, help="How much.")
    free: float = parameter(0.0, help="Without bounds.")
    whole: float = parameter(1.0, keyable=False, help="Of the whole shot.")
    count: int = parameter(3, help="How many.")
    on: bool = parameter(True, affects="frames", help="Whether.")
    seed: int | None = parameter(None, kind=Kind.SEED, help="Start of chance.")


def keyed(*pairs: float, **more: Any) -> dict[str, Any]:
    return {"keys": {str(1001 + i): value for i, value in enumerate(pairs)}, **more}


def faults_of(values: dict[str, Any]) -> dict[str, Fault]:
    *_, faults = validate_keyed(_Knobs, values)
    assert faults
    return {fault.where: fault for fault in faults}


def test_a_keyed_float_goes_beside_the_parameters_and_stands_there_with_its_first_value() -> None:
    parameters, found, faults = validate_keyed(
        _Knobs, {"amount": {"keys": {"1010": 2, "1001": 0.25}}, "free": {"audio": "a.wav", "low": -3}, "count": 4}
    )
    assert faults == []
    assert parameters == _Knobs(amount=0.25, free=-3, count=4)
    assert set(found) == {"amount", "free"}
    assert isinstance(found["free"], AudioCurve)


def test_without_a_curve_it_is_plain_validation() -> None:
    assert validate_keyed(_Knobs, {"amount": 1}) == (_Knobs(amount=1), {}, [])


@pytest.mark.parametrize("name", ["whole", "count", "on", "seed"])
def test_what_can_not_be_keyed_says_so_once(name: str) -> None:
    faults = faults_of({name: keyed(1, 2)})
    assert list(faults) == [f"parameter {name}"]
    assert "can't be keyed" in faults[f"parameter {name}"].message


def test_a_curve_for_a_parameter_that_is_not_there_is_an_unknown_parameter() -> None:
    assert "no such parameter" in faults_of({"nothing": keyed(1)})["parameter nothing"].message


@pytest.mark.parametrize(
    "curve",
    [keyed(0, 2.01), keyed(-0.01, 1), keyed(1, 3, 1), {"audio": "a.wav", "low": 3, "high": 0}, {"audio": "a.wav", "high": 9}],
)  # fmt: skip
def test_every_value_of_a_curve_must_lie_in_the_parameters_bounds(curve: dict[str, Any]) -> None:
    fault = faults_of({"amount": curve})["parameter amount"]
    assert "is keyed from" in fault.message
    assert fault.hint == "allowed: 0 to 2"


def test_a_curve_may_touch_both_bounds() -> None:
    assert validate_keyed(_Knobs, {"amount": keyed(0, 2, interpolation="smooth")})[2] == []


def test_faults_of_curves_and_of_values_come_together_and_leave_no_parameters() -> None:
    values = {"amount": keyed(9), "free": {"keys": {}}, "count": "many", "other": 1}
    parameters, found, faults = validate_keyed(_Knobs, values)
    assert parameters is None
    assert found == {}
    assert {f.where for f in faults} == {f"parameter {name}" for name in values}


def test_what_travelled_is_not_changed() -> None:
    values = {"amount": keyed(9), "free": keyed(1)}
    before = {name: dict(curve) for name, curve in values.items()}
    validate_keyed(_Knobs, values)
    assert values == before


def test_the_form_says_which_floats_may_be_keyed_and_nothing_of_the_others() -> None:
    entries = {entry["name"]: entry.get("keyable") for entry in describe(_Knobs)["parameters"]}
    assert entries == {"amount": True, "free": True, "whole": False, "count": None, "on": None, "seed": None}


def test_a_fit_sees_neither_what_may_be_keyed_nor_what_is_not_its_own() -> None:
    given_ = _Knobs(amount=2, free=5, whole=7, count=9, on=False, seed=4)
    assert for_fit(given_) == _Knobs(whole=7, count=9, seed=4)
