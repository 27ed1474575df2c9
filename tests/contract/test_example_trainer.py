"""The trainer in docs/extending.md, taken out of the page and really run."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.memory_shot import MemoryFinishedShot
from pipeline.models.checkpoints import FolderCheckpoints
from pipeline.models.inspect import inspect_model
from pipeline.parameters import Parameters, parameter
from pipeline.tasks.contract import Cancelled, ModelRef
from pipeline.tasks.definition import Measure, TrainingDefinition
from pipeline.tasks.training import WEIGHTS

PAGE = (Path(__file__).parents[2] / "docs/extending.md").read_text()
SECTION = PAGE.split("## A task that learns\n")[1].split("\n## ")[0]


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    """The names that the section's code leaves behind."""
    names: dict[str, Any] = {
        "__name__": "luma_key.trainer",
        "Parameters": Parameters,
        "parameter": parameter,
        "Measure": Measure,
        "TrainingDefinition": TrainingDefinition,
    }
    for block in re.findall(r"^```python\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL):
        exec(compile(block, "docs/extending.md", "exec"), names)
    return names


def keyed(seed: int, threshold: float = 0.2) -> MemoryFinishedShot:
    """A version whose matte is what is brighter than `threshold`."""
    plate = {f: np.random.default_rng(seed + f).random((3, 16, 24), np.float32) for f in range(1001, 1005)}
    mattes = {f: (p.mean(0) > threshold).astype(np.float32) for f, p in plate.items()}
    return MemoryFinishedShot(name=f"film/{seed} lumakey v001", plate=plate, layers={"matte": mattes})


def train(example: dict[str, Any], folder: Path, states: Path, cancel_at: float = 2.0) -> dict[str, Any]:
    def progress(fraction: float, note: str = "") -> None:
        if fraction >= cancel_at:
            raise Cancelled

    folder.mkdir()
    context = SimpleNamespace(
        parameters=example["LumaKeyTrainingParameters"](),
        seed=0,
        shots=[keyed(1), keyed(2)],
        folder=folder,
        checkpoints=FolderCheckpoints(states, every_s=0),
        progress=progress,
    )
    facts: dict[str, Any] = example["LumaKeyTrainer"]().train(context, ModelRef())
    return facts


def test_the_trainer_of_the_page_learns_resumes_and_is_scored(example: dict[str, Any], tmp_path: Path) -> None:
    trainer, definition = example["LumaKeyTrainer"](), example["TRAINING"]
    facts = train(example, tmp_path / "whole", tmp_path / "states")
    assert facts["threshold"] < 0.4
    with pytest.raises(Cancelled):
        train(example, tmp_path / "first", tmp_path / "others", cancel_at=0.5)
    assert train(example, tmp_path / "second", tmp_path / "others") == facts
    assert (tmp_path / "second" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()
    found = inspect_model(tmp_path / "whole" / WEIGHTS, families=definition.base_families)
    assert (found.family, found.base) == (definition.makes, "luma_key/1")
    scores = [
        trainer.score(SimpleNamespace(shot=keyed(9)), ModelRef(path=path))
        for path in (None, tmp_path / "whole" / WEIGHTS)
    ]
    assert set(scores[0]) == set(definition.measures)
    assert scores[1]["difference"] < 0.7 * scores[0]["difference"]


def test_every_field_of_a_training_definition_is_explained() -> None:
    cells = set(re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (`[^|]+) \|", SECTION, re.MULTILINE))))
    assert {field.name for field in fields(TrainingDefinition)} - cells == set()
