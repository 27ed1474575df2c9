"""What a training will take is said from trainings before it, in proportion to what it is asked to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farm.estimates import Estimate
from farm.store import SqlStore
from farm.training_estimates import training_estimate
from pipeline.jobs.training import TrainingSpec
from pipeline.tasks.roto.definition import ROTO, RotoTrainingParameters
from tests.queue_kit import STUDIO, QueueFarm, database_url
from tests.unit.farm.test_registering import OWN, SHA, finish_until_register, registered, submit, training_spec

KINDS = ["file", pytest.param("postgres", marks=pytest.mark.postgres)]
STEP_S, SHOT_S = 0.3, 0.2
"""A made-up machine: seconds for a unit of effort of a training, and of a judgement."""


@pytest.fixture(params=KINDS)
def farm(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[QueueFarm]:
    with database_url(request.param, tmp_path) as url:
        opened = QueueFarm(SqlStore.open(url))
        yield opened
        opened.close()


def parameters(**given: Any) -> dict[str, Any]:
    return RotoTrainingParameters(**given).model_dump(mode="json")


def efforts(spec: TrainingSpec) -> tuple[float, float]:
    assert ROTO.training is not None
    given = RotoTrainingParameters.model_validate(spec.parameters)
    return ROTO.training.effort(given, len(spec.lessons)), ROTO.training.score_effort(given)


def do(farm: QueueFarm, spec: TrainingSpec, *, slower: float = 1.0, sha256: str = SHA) -> None:
    """A training from its submission to its card, on the made-up machine."""
    submit(farm, spec)
    train, score = efforts(spec)
    while (held := farm.take()).step != "register":
        farm.clock.now += slower * (train * STEP_S if held.step == "train" else score * SHOT_S)
        assert farm.done(held)
    assert farm.done(held, result=registered(spec, sha256=sha256))


def estimate(farm: QueueFarm, *, lessons: int = 2, held_out: int = 2, **given: Any) -> Estimate | None:
    assert ROTO.training is not None
    training, asked = ROTO.training, parameters(**given)
    return farm.dispatcher.read(
        lambda turn: training_estimate(
            turn.tx, STUDIO, "roto", training, turn.settings, parameters=asked, lessons=lessons, held_out=held_out
        )
    )


def test_nobody_knows_what_the_first_training_takes(farm: QueueFarm) -> None:
    assert estimate(farm) is None
    submit(farm, training_spec(parameters=parameters()))
    finish_until_register(farm)
    assert estimate(farm) is None, "it has not succeeded yet"


def test_an_estimate_grows_with_steps_lessons_and_held_out_shots(farm: QueueFarm) -> None:
    do(farm, training_spec(parameters=parameters(iterations=100, score_iterations=0, score_frames=10)))
    found = estimate(farm, lessons=5, held_out=3, iterations=1000, score_iterations=40, score_frames=10)
    assert found is not None
    train, score = (1000 + 30 * 5) * STEP_S, 2 * (40 + 10) * SHOT_S * 3
    assert found.machine_s == pytest.approx(train + score, abs=0.1)
    assert (found.jobs, found.low, found.high) == (1, found.machine_s, found.machine_s)


def test_a_judgement_is_estimated_by_its_shots_alone(farm: QueueFarm) -> None:
    do(farm, training_spec(parameters=parameters(iterations=100)))
    found = estimate(farm, lessons=0, held_out=4, score_iterations=10, score_frames=10)
    assert found is not None and found.machine_s == pytest.approx(2 * 20 * SHOT_S * 4, abs=0.1)


def test_the_middle_of_what_was_counts_and_the_spread_is_told(farm: QueueFarm) -> None:
    spec = training_spec(parameters=parameters(iterations=500))
    for number, slower in enumerate((1.0, 1.2, 4.0)):
        do(farm, spec, slower=slower, sha256=f"{number}" * 64)
    found = estimate(farm, iterations=500)
    train, score = efforts(spec)
    once = train * STEP_S + 2 * score * SHOT_S
    assert found is not None and found.jobs == 3
    assert found.machine_s == pytest.approx(1.2 * once, abs=0.2)
    assert found.low < found.machine_s < found.high


def test_another_studios_trainings_say_nothing(farm: QueueFarm) -> None:
    spec = training_spec(studio="elsewhere", parameters=parameters(), present=OWN)
    job = submit(farm, spec)
    while (held := farm.claim("w1", studio="elsewhere")) is not None:
        farm.clock.now += 5
        result = registered(spec) if held.step == "register" else {}
        assert farm.done(held, studio="elsewhere", result=result)
    assert farm.job(job.id, "elsewhere").job.state == "succeeded"
    assert estimate(farm) is None
