"""What a show asks of the measures: a publish that breaks it is refused, with the frames and by how much."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.publish.run import PublishRefused
from pipeline.tasks.definition import Bound
from tests.unit.publish.conftest import FRAMES


def said(bench: Any) -> str:
    """What the check of the bounds says; it must be the only one that refuses, and nothing may be left behind."""
    with pytest.raises(PublishRefused) as caught:
        bench.run()
    assert bench.left() == []
    assert [fault.where for fault in caught.value.faults] == ["quality"]
    return caught.value.faults[0].message


def measured(**values: list[float]) -> dict[int, dict[str, float]]:
    return {f: {name: of[i] for name, of in values.items()} for i, f in enumerate(FRAMES)}


def test_without_bounds_anything_passes(bench) -> None:
    bench.ask(quality=measured(confidence=[0, 0, 0, 0, 0], drift=[1e9] * 5))
    assert bench.run().frames == FRAMES


def test_a_measure_below_its_least_names_the_frames_and_the_worst(bench) -> None:
    bench.ask(bounds={"confidence": Bound(least=0.5)}, quality=measured(confidence=[0.9, 0.4, 0.45, 0.5, 0.123456]))
    assert said(bench) == "1002-1003,1005: confidence is below 0.5, at worst 0.123"


def test_a_measure_above_its_most_names_the_frames_and_the_worst(bench) -> None:
    bench.ask(bounds={"drift": Bound(most=2)}, quality=measured(confidence=[1] * 5, drift=[0, 2, 2.5, 7, 1]))
    assert said(bench) == "1003-1004: drift is above 2, at worst 7"


def test_a_measure_that_touches_its_bounds_passes(bench) -> None:
    bench.ask(bounds={"confidence": Bound(least=0.5, most=0.5)}, quality=measured(confidence=[0.5] * 5))
    bench.run()


def test_both_ends_of_a_bound_and_several_measures_are_told_at_once(bench) -> None:
    bench.ask(
        bounds={"a": Bound(least=1, most=2), "b": Bound(most=0)},
        quality=measured(a=[0, 3, 1.5, 1, 2], b=[0, 0, 0, 0, 1]),
    )
    words = said(bench)
    assert "1001: a is below 1" in words
    assert "1002: a is above 2" in words
    assert "1005: b is above 0" in words


def test_frames_that_do_not_have_the_measure_are_not_held_to_it(bench) -> None:
    quality = measured(confidence=[1] * 5)
    quality[1003]["join"] = 9.0
    bench.ask(bounds={"join": Bound(most=3), "never": Bound(least=1)}, quality=quality)
    assert said(bench) == "1003: join is above 3, at worst 9"


@pytest.mark.parametrize(("parameters", "passes"), [({"accept": True}, True), ({"accept": False}, False), ({}, False)])
def test_the_artist_may_accept_what_the_task_lets_them_accept(bench, parameters: dict[str, bool], passes: bool) -> None:
    bench.ask(
        bounds={"drift": Bound(most=2, unless="accept")}, quality=measured(confidence=[1] * 5, drift=[9] * 5),
        record={**bench.record(), "parameters": parameters},
    )  # fmt: skip
    if passes:
        bench.run()
    else:
        assert "drift is above 2" in said(bench)


def test_accepting_one_bound_accepts_no_other(bench) -> None:
    bench.ask(
        bounds={"drift": Bound(most=2, unless="accept"), "confidence": Bound(least=0.5)},
        quality=measured(confidence=[0.1] * 5, drift=[9] * 5), record={**bench.record(), "parameters": {"accept": True}},
    )  # fmt: skip
    assert said(bench) == "1001-1005: confidence is below 0.5, at worst 0.1"


def flickering(bench: Any) -> None:
    """The matte goes out on 1003 and comes back."""
    bench.spoil(
        lambda frame: bench.with_channels(frame, {"matte.A": np.zeros_like(frame.main.channels["matte.A"])}), [1003]
    )


def test_flicker_is_measured_by_the_publish_itself(bench) -> None:
    bench.ask(bounds={"flicker": Bound(most=1e9)})
    flickering(bench)
    report = bench.run().report
    worst = max(row["flicker"]["matte"] for row in report["frames"] if "flicker" in row)
    assert worst > 1


def test_a_bound_on_flicker_is_held_frame_by_frame(bench) -> None:
    flickering(bench)
    bench.ask(bounds={"flicker": Bound(most=1)})
    words = said(bench)
    assert "flicker is above 1" in words
    assert "1003" in words or "1002-1004" in words


def test_a_tasks_own_flicker_goes_before_the_measured_one(bench) -> None:
    flickering(bench)
    bench.ask(bounds={"flicker": Bound(most=1)}, quality=measured(confidence=[1] * 5, flicker=[0.5] * 5))
    bench.run()
