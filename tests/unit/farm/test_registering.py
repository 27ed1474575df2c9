"""What becomes of a training's last step: one card with its scores, whatever was trained before and however often it is reported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farm.cards import CardView, NewCard, add_card, card_of_job, list_cards, scores
from farm.promotions import retire
from farm.records import JobView, WorkFacts
from farm.states import FailureKind, JobKind, JobState, ModelState
from farm.store import SqlStore
from pipeline.errors import NotFoundError, StateError
from pipeline.frames import FrameRange
from pipeline.jobs.spec import ModelSpec, PlateSpec
from pipeline.jobs.training import JudgedSpec, LessonSpec, TrainingSpec, plan_training
from tests.queue_kit import STUDIO, QueueFarm, database_url, job_spec

KINDS = ["file", pytest.param("postgres", marks=pytest.mark.postgres)]
SHA = "a1" * 32
OTHER_SHA = "b2" * 32


@pytest.fixture(params=KINDS)
def farm(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[QueueFarm]:
    with database_url(request.param, tmp_path) as url:
        opened = QueueFarm(SqlStore.open(url))
        yield opened
        opened.close()


def plate_of(shot: str) -> PlateSpec:
    return job_spec("1001-1004").plate.model_copy(update={"pattern": f"/versions/{shot}.####.exr"})


def lesson(version: int, shot: str, **more: Any) -> LessonSpec:
    return LessonSpec(
        version=version,
        name=f"show_sq01_{shot}_roto_v001",
        show="show",
        sequence="sq01",
        shot=shot,
        product="roto",
        plate=plate_of(shot),
        **more,
    )


OWN = JudgedSpec(label="imagenet", model=ModelSpec(name="imagenet"))


def training_spec(**more: Any) -> TrainingSpec:
    """A training of two lessons, judged by two shots."""
    given = {
        "task": "roto",
        "studio": STUDIO,
        "show": "show",
        "name": "hero",
        "base": ModelSpec(name="imagenet"),
        "lessons": (lesson(1, "sh010"), lesson(2, "sh020")),
        "held_out": (lesson(3, "sh030"), lesson(4, "sh040")),
        "present": OWN,
        "parameters": {"iterations": 10, "score_frames": 4},
        "licence": "LicenseRef-local",
        "publish_root": "/publish",
        "models_folder": "/publish/.platewright/models/local",
        "user": "ann",
    }
    return TrainingSpec(**{**given, **more})


def submit(farm: QueueFarm, spec: TrainingSpec | None = None) -> JobView:
    spec = spec or training_spec()
    work = WorkFacts(product="", memory_mb=100, model=f"{spec.task}:{spec.kind}")
    return farm.run(farm.dispatcher.submit(spec, plan_training(spec), work=work)).job


def registered(
    spec: TrainingSpec, *, sha256: str = SHA, candidate: float = 0.8, present: float = 0.7, protocol: str = ""
) -> dict[str, Any]:
    """What a register step hands in."""

    def scored(value: float) -> dict[str, Any]:
        return {"value": value, "shots": {one.address: {"jf": value} for one in spec.held_out}}

    path = f"{spec.models_folder}/roto/{sha256}.safetensors"
    made = {"sha256": sha256, "path": path, "family": "net", "facts": {"steps": 10, "train_s": 1.5}}
    return {
        "model": made if spec.candidate is None else None,
        "candidate": spec.name,
        "against": spec.present.label,
        "protocol": protocol or spec.protocol,
        "measure": "jf",
        "scores": {"candidate": scored(candidate), "present": scored(present)},
    }


def finish_until_register(farm: QueueFarm, worker: str = "w1") -> Any:
    """Do all steps before the last, and claim that one."""
    while True:
        held = farm.take(worker)
        if held.step == "register":
            return held
        assert farm.done(held, worker)


def train(farm: QueueFarm, spec: TrainingSpec | None = None, **result: Any) -> tuple[JobView, CardView]:
    """A training from its submission to its card."""
    spec = spec or training_spec()
    job = submit(farm, spec)
    held = finish_until_register(farm)
    assert farm.done(held, result=registered(spec, **result))
    card = farm.dispatcher.read(lambda turn: card_of_job(turn.tx, spec.studio, job.id))
    assert card is not None
    return job, card


def all_cards(farm: QueueFarm) -> tuple[CardView, ...]:
    return farm.dispatcher.read(lambda turn: list_cards(turn.tx, STUDIO))


def all_scores(farm: QueueFarm, **of: Any) -> list[tuple[int | None, int, float]]:
    found = farm.dispatcher.read(lambda turn: scores(turn.tx, STUDIO, "roto", **of))
    return [(score.model, score.job, score.value) for score in found]


def test_a_training_ends_with_a_card_that_tells_what_it_learned_from_and_how_it_did(farm: QueueFarm) -> None:
    job, card = train(farm)
    assert farm.job(job.id).job.state is JobState.SUCCEEDED
    assert farm.job(job.id).job.kind == JobKind.TRAINING
    assert (card.label, card.sha256, card.state, card.job) == ("hero@v001", SHA, ModelState.CANDIDATE, job.id)
    assert [one["shot"] for one in card.lineage["versions"]] == ["show/sq01/sh010", "show/sq01/sh020"]
    assert [one["shot"] for one in card.lineage["held_out"]] == ["show/sq01/sh030", "show/sq01/sh040"]
    assert card.score is not None and card.score.value == 0.8
    assert set(card.score.shots) == {"show/sq01/sh030", "show/sq01/sh040"}
    assert all_scores(farm) == [(None, job.id, 0.7), (card.id, job.id, 0.8)]


def test_the_same_weights_made_twice_are_one_card_with_two_scores_and_both_jobs_end(farm: QueueFarm) -> None:
    first, card = train(farm)
    second, again = train(farm, candidate=0.81)
    assert farm.job(second.id).job.state is JobState.SUCCEEDED
    assert again.id == card.id
    assert [one.label for one in all_cards(farm)] == ["hero@v001"]
    assert all_scores(farm, model=card.id) == [(card.id, second.id, 0.81), (card.id, first.id, 0.8)]
    assert all_cards(farm)[0].job == first.id, "who made it first stays its maker"


def test_two_equal_trainings_at_once_both_end(farm: QueueFarm) -> None:
    one, other = submit(farm), submit(farm)
    spec = training_spec()
    held = {worker: finish_until_register(farm, worker) for worker in ("w1", "w2")}
    for worker, last in held.items():
        assert farm.done(last, worker, result=registered(spec)), worker
    assert [farm.job(job.id).job.state for job in (one, other)] == [JobState.SUCCEEDED] * 2
    assert len(all_cards(farm)) == 1


def test_the_same_weights_under_another_name_are_another_card(farm: QueueFarm) -> None:
    _, card = train(farm)
    _, other = train(farm, training_spec(name="villain"))
    assert (card.label, other.label) == ("hero@v001", "villain@v001")
    assert card.sha256 == other.sha256


def test_a_training_that_finds_the_weights_of_a_retired_card_scores_it_and_leaves_it_retired(farm: QueueFarm) -> None:
    _, card = train(farm)
    farm.run(farm.dispatcher.write(lambda turn: retire(turn, card)))
    _, again = train(farm, candidate=0.9)
    assert (again.id, again.state) == (card.id, ModelState.RETIRED)


def test_an_end_that_is_reported_twice_counts_once(farm: QueueFarm) -> None:
    spec = training_spec()
    job = submit(farm, spec)
    held = finish_until_register(farm)
    assert farm.done(held, result=registered(spec))
    assert farm.done(held, result=registered(spec))
    assert len(all_cards(farm)) == 1
    assert len(all_scores(farm)) == 2
    assert farm.job(job.id).job.state is JobState.SUCCEEDED


def test_an_attempt_that_was_taken_back_registers_nothing(farm: QueueFarm) -> None:
    spec = training_spec()
    submit(farm, spec)
    slow = finish_until_register(farm)
    farm.pass_time(farm.settings.lease_s + 5)
    newer = farm.take("w2")
    assert newer.chunk_id == slow.chunk_id
    assert not farm.done(slow, result=registered(spec, sha256=OTHER_SHA))
    assert all_cards(farm) == ()
    assert farm.done(newer, "w2", result=registered(spec))
    assert [card.sha256 for card in all_cards(farm)] == [SHA]


@pytest.mark.parametrize("steps_done", [0, 1, 2, 3])
def test_a_training_that_is_cancelled_on_the_way_leaves_no_card_and_no_score(farm: QueueFarm, steps_done: int) -> None:
    spec = training_spec()
    job = submit(farm, spec)
    for _ in range(steps_done):
        assert farm.done(farm.take())
    held = farm.take()
    farm.run(farm.dispatcher.cancel(STUDIO, job.id))
    assert not farm.done(held, result=registered(spec))
    assert all_cards(farm) == () and all_scores(farm) == []
    assert farm.dispatcher.read(lambda turn: card_of_job(turn.tx, STUDIO, job.id)) is None


@pytest.mark.parametrize("step", ["train", "score", "register"])
def test_no_step_of_a_training_can_be_skipped_so_a_model_is_judged_on_all_shots_or_not_at_all(
    farm: QueueFarm, step: str
) -> None:
    job = submit(farm)
    chunk = next(c.id for c in farm.job(job.id).chunks if c.step == step)
    with pytest.raises(StateError, match=f"the {step} of job"):
        farm.run(farm.dispatcher.skip(STUDIO, job.id, chunk=chunk))
    with pytest.raises(NotFoundError, match="no chunk"):
        farm.run(farm.dispatcher.skip(STUDIO, job.id, frames=FrameRange.parse("1-2")))


def test_a_score_that_failed_is_retried_and_the_card_comes_then(farm: QueueFarm) -> None:
    spec = training_spec()
    job = submit(farm, spec)
    assert farm.done(farm.take())
    farm.fail(farm.take(), kind=FailureKind.REFUSED)
    assert farm.job(job.id).job.state is JobState.FAILED
    assert farm.claim() is None and all_cards(farm) == ()
    farm.run(farm.dispatcher.retry(STUDIO, job.id))
    assert farm.done(finish_until_register(farm), result=registered(spec))
    assert [card.label for card in all_cards(farm)] == ["hero@v001"]
    with pytest.raises(StateError):
        farm.run(farm.dispatcher.retry(STUDIO, job.id))


def test_a_judgement_makes_no_card_and_scores_the_one_that_is_there(farm: QueueFarm) -> None:
    first, card = train(farm)
    judged = JudgedSpec(card=card.id, label=card.label, model=ModelSpec(name=card.label, path=card.path, sha256=SHA))
    spec = training_spec(lessons=(), candidate=judged)
    job = submit(farm, spec)
    held = finish_until_register(farm)
    assert farm.done(held, result=registered(spec, candidate=0.6))
    assert farm.job(job.id).job.kind == JobKind.SCORING
    assert all_scores(farm, model=card.id) == [(card.id, job.id, 0.6), (card.id, first.id, 0.8)]
    assert farm.dispatcher.read(lambda turn: card_of_job(turn.tx, STUDIO, job.id)) is None


def test_a_model_of_another_studio_with_the_same_weights_is_a_card_of_its_own(farm: QueueFarm) -> None:
    theirs = NewCard(
        studio="guest", task="roto", name="hero", family="net", sha256=SHA, path="/elsewhere", base="", licence="MIT",
        created_by="bob",
    )  # fmt: skip
    farm.run(farm.dispatcher.write(lambda turn: add_card(turn, theirs)))
    _, card = train(farm)
    assert (card.studio, card.label) == (STUDIO, "hero@v001")
    assert [one.studio for one in farm.dispatcher.read(lambda turn: list_cards(turn.tx, "guest"))] == ["guest"]
