"""Golden forms, and a control for every kind on every face that exists."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from farm.cli.options import CONTROLS, task_options
from pipeline.parameters import Kind, describe
from pipeline.tasks.registry import task, tasks

GOLDEN = Path(__file__).parent.parent / "golden" / "forms"


@pytest.mark.parametrize("name", [definition.name for definition in tasks()])
def test_the_form_is_the_golden_one(name: str) -> None:
    form = json.loads(json.dumps(describe(task(name).parameters)))
    golden = GOLDEN / f"{name}.json"
    assert golden.exists(), "make it with: python -m tests.golden.refresh"
    assert form == json.loads(golden.read_text()), "if the change is meant: python -m tests.golden.refresh"


@pytest.mark.parametrize("name", [definition.name for definition in tasks() if definition.training])
def test_the_form_of_a_training_is_the_golden_one(name: str) -> None:
    training = task(name).training
    assert training is not None
    golden = json.loads((GOLDEN / f"{name}.training.json").read_text())
    assert json.loads(json.dumps(describe(training.parameters))) == golden, (
        "if it is meant: python -m tests.golden.refresh"
    )


def test_the_command_line_has_a_control_for_every_kind() -> None:
    assert set(CONTROLS) == set(Kind)


@pytest.mark.parametrize("name", [definition.name for definition in tasks()])
def test_every_parameter_is_an_option(name: str) -> None:
    asked = {option.name for option in task_options(task(name))}
    assert asked == {"param_" + entry["name"] for entry in describe(task(name).parameters)["parameters"]}
