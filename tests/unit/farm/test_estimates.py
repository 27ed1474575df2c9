"""What a job will take is said from work like it, and from nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from farm.estimates import Estimate, accuracy, estimate_of, relative_error
from farm.outcome import outcome
from farm.records import WorkFacts
from farm.store import SqlStore
from farm.tables import JOB
from pipeline.jobs.plan import Step, plan
from pipeline.jobs.spec import JobSpec, PlateSpec, TakeSpec
from pipeline.tasks.matte.definition import MATTE
from pipeline.tasks.roto.definition import ROTO, RotoParameters
from tests.queue_kit import STUDIO, QueueFarm, database_url, open_farm

KINDS = ["file", pytest.param("postgres", marks=pytest.mark.postgres)]
FIT_STEP_S, INFER_S, PUBLISH_S = 0.25, 2.0, 0.5
"""A made-up machine: seconds for a unit of effort of each step; those of infer and publish are of a frame of a megapixel."""


@pytest.fixture
def farm() -> Iterator[QueueFarm]:
    with open_farm(machine_hour=3.6, gpu_hour=0, currency="EUR") as farm:
        yield farm


def spec_of(frames: int = 24, *, iterations: int = 100, side: int = 1000, takes: int = 1, **more: Any) -> JobSpec:
    """A roto of so many frames of `side` × 1000 pixels."""
    span = f"1001-{1000 + frames}"
    plate = PlateSpec(
        pattern="/plates/p.####.exr",
        frames=span,
        layers=(),
        data_window=(0, 0, side - 1, 999),
        display_window=(0, 0, side - 1, 999),
        colorspace="lin_rec709_scene",
        source_colorspace="lin_rec709_scene",
    )
    parameters = RotoParameters(iterations=iterations).model_dump(mode="json")
    wanted = tuple(TakeSpec(index=i, name=f"take-{i + 1}", seed=i, parameters=parameters) for i in range(takes))
    given = {"studio": STUDIO, "show": "show", "sequence": "sq01", "shot": "sh010", "publish_root": "/publish", **more}
    return JobSpec(task="roto", plate=plate, frames=span, takes=wanted, codec="zips", **given)


def submit(farm: QueueFarm, spec: JobSpec, *, model: str = "roto:", estimate: str = "") -> int:
    work = WorkFacts(product="roto", memory_mb=100, model=model, estimate=estimate)
    return farm.run(farm.dispatcher.submit(spec, plan(spec, ROTO), work=work)).job.id


def do(
    farm: QueueFarm, spec: JobSpec, *, slower: float = 1.0, results: Sequence[dict[str, Any]] = (), **more: Any
) -> int:
    """Submit a job and do it all on the made-up machine. Returns its number."""
    tags = more.pop("tags", {})
    job = submit(farm, spec, **more)
    given = {result["step"]: result for result in results}
    while (held := farm.claim("w1", tags=tags, studio=spec.studio, pools=(spec.pool,))) is not None:
        chunk = next(chunk for chunk in farm.job(job, spec.studio).chunks if chunk.id == held.chunk_id)
        first, _, last = chunk.frames.partition("-")
        window = spec.plate.plate().data_window
        frames = int(last or first) - int(first) + 1
        size = frames * window.width * window.height / 1e6
        parameters = RotoParameters.model_validate(spec.takes[held.take].parameters)
        units = {
            "fit": (parameters.iterations + 0.5 * frames) * FIT_STEP_S,
            "infer": size * INFER_S,
            "publish": size * PUBLISH_S,
        }
        farm.clock.now += units[held.step] * slower
        result = {"version": {"frames": spec.frames}} if held.step == "publish" else given.get(held.step, {})
        assert farm.done(held, studio=spec.studio, result=result)
    return job


def estimated(farm: QueueFarm, spec: JobSpec, steps: Sequence[Step] | None = None) -> Estimate | None:
    planned = plan(spec, ROTO) if steps is None else steps
    return farm.dispatcher.read(lambda turn: estimate_of(turn.tx, spec, planned, ROTO, turn.settings))


def sure(farm: QueueFarm, spec: JobSpec) -> Estimate:
    found = estimated(farm, spec)
    assert found is not None
    return found


def truth(frames: int, iterations: int, megapixels: float) -> float:
    return (iterations + 0.5 * frames) * FIT_STEP_S + frames * megapixels * (INFER_S + PUBLISH_S)


@pytest.mark.parametrize("kind", KINDS)
def test_jobs_of_any_size_are_estimated_from_one_on_a_machine_of_constant_speed(kind: str, tmp_path: Path) -> None:
    with database_url(kind, tmp_path) as url:
        farm = QueueFarm(SqlStore.open(url), machine_hour=3.6, currency="EUR")
        do(farm, spec_of(24, iterations=100))
        for frames, iterations, side in ((24, 100, 1000), (7, 500, 1000), (100, 0, 2000), (1, 5000, 100)):
            found = sure(farm, spec_of(frames, iterations=iterations, side=side))
            expected = truth(frames, iterations, side / 1000)
            assert found.machine_s == pytest.approx(expected, abs=0.06), (frames, iterations, side)
            assert found.money == pytest.approx(expected * 0.001, abs=1e-4)
            assert (found.low, found.high, found.jobs, found.currency) == (found.machine_s, found.machine_s, 1, "EUR")
        farm.close()


def test_nothing_is_said_before_the_studio_has_done_such_a_job(farm: QueueFarm) -> None:
    spec = spec_of()
    assert estimated(farm, spec) is None
    do(farm, spec_of(studio="guest"))
    assert estimated(farm, spec) is None, "another studio's work says nothing"
    failing = submit(farm, spec)
    assert estimated(farm, spec) is None, f"job {failing} hasn't ended"
    farm.run(farm.dispatcher.cancel(STUDIO, failing))
    do(farm, spec)
    assert sure(farm, spec).jobs == 1
    other = farm.dispatcher.read(lambda turn: estimate_of(turn.tx, spec, plan(spec, ROTO), MATTE, turn.settings))
    assert other is None, "roto's history is none of another task's"


def test_what_was_taken_over_is_no_measure_of_speed(farm: QueueFarm) -> None:
    reused = [{"step": "fit", "reused": True}, {"step": "infer", "reused": "1001-1006"}]
    do(farm, spec_of(12, iterations=100), slower=0.001, results=reused)
    assert estimated(farm, spec_of(12)) is None, "no fit was ever done"
    do(farm, spec_of(12, iterations=100), results=[{"step": "fit", "shared": True}])
    assert estimated(farm, spec_of(12)) is None, "nor was the shared one"
    with open_farm() as fresh:
        do(fresh, spec_of(12, iterations=100), results=[{"step": "infer", "reused": "1001-1006"}])
        half = sure(fresh, spec_of(12, iterations=100)).machine_s
    # Six frames took what twelve would have: the made-up machine doesn't know that they were linked.
    assert half == pytest.approx(truth(12, 100, 1.0) + 12 * INFER_S, abs=0.06)


def test_the_median_is_no_slave_to_one_slow_job_and_the_quartiles_show_the_spread(farm: QueueFarm) -> None:
    for slower in (1.0, 1.1, 0.9, 1.0, 20.0):
        do(farm, spec_of(), slower=slower)
    found = sure(farm, spec_of())
    assert found.machine_s == pytest.approx(truth(24, 100, 1.0), rel=0.001)
    assert (found.low, found.high) == (pytest.approx(found.machine_s), pytest.approx(found.machine_s * 1.1, rel=0.001))
    assert found.jobs == 5


def test_jobs_that_are_most_alike_are_asked_first_while_there_are_enough(farm: QueueFarm) -> None:
    planned = spec_of(24, iterations=100, pool="gpu")
    for _ in range(3):
        do(farm, spec_of(24, iterations=100, pool="gpu"), model="roto:other", slower=9)
    assert (sure(farm, planned).alike, sure(farm, planned).jobs) == ("task", 3)
    for _ in range(3):
        do(farm, spec_of(24, iterations=100), slower=4)
    found = sure(farm, planned)
    assert (found.alike, found.machine_s) == ("model", pytest.approx(truth(24, 100, 1) * 4, rel=0.001))
    for _ in range(3):
        do(farm, spec_of(240, iterations=1000, pool="gpu"), slower=2)
    found = sure(farm, planned)
    assert (found.alike, found.machine_s) == ("model and pool", pytest.approx(truth(24, 100, 1) * 2, rel=0.001))
    for _ in range(3):
        do(farm, spec_of(30, iterations=150, pool="gpu"))
    found = sure(farm, planned)
    assert (found.alike, found.machine_s) == ("size", pytest.approx(truth(24, 100, 1), rel=0.001))


def test_gpus_and_money_are_those_of_the_workers_at_todays_prices(farm: QueueFarm) -> None:
    do(farm, spec_of(), tags={"gpus": "2", "hour_price": "36"})
    found = sure(farm, spec_of())
    assert found.gpu_s == pytest.approx(found.machine_s * 2, abs=0.1)
    assert found.money == pytest.approx(found.machine_s * 0.01, abs=1e-3)
    assert farm.claim("w1", tags={"gpus": "1", "hour_price": "72"}) is None
    dearer = sure(farm, spec_of())
    assert dearer.gpu_s == pytest.approx(dearer.machine_s, abs=0.1)
    assert dearer.money == pytest.approx(dearer.machine_s * 0.02, abs=1e-3)


def test_it_says_where_it_may_be_less(farm: QueueFarm) -> None:
    do(farm, spec_of(shot="sh999"))
    assert not sure(farm, spec_of()).upper
    wedge = sure(farm, spec_of(takes=3))
    assert wedge.upper and wedge.machine_s == pytest.approx(3 * sure(farm, spec_of()).machine_s, abs=0.2)
    do(farm, spec_of())
    assert sure(farm, spec_of()).upper, "the shot has a version whose frames may be taken"


def test_a_spec_of_older_parameters_is_passed_over(farm: QueueFarm) -> None:
    job = do(farm, spec_of())
    assert estimated(farm, spec_of()) is not None
    text = spec_of().model_dump_json().replace('"iterations"', '"nothing_like_it"')
    farm.store.submit(lambda tx: tx.execute(update(JOB).where(JOB.c.id == job).values(spec=text))).result()
    assert estimated(farm, spec_of()) is None


def test_an_estimate_is_kept_with_the_job_and_judged_when_it_has_succeeded(farm: QueueFarm) -> None:
    do(farm, spec_of())
    said = sure(farm, spec_of())
    job = do(farm, spec_of(), slower=1.5, estimate=said.as_text())
    told = outcome(farm.job(job))["estimate"]
    assert told == {**said.as_json(), "error": pytest.approx(0.5, abs=0.001)}
    assert json.loads(json.dumps(told)) == told
    waiting = submit(farm, spec_of(), estimate=said.as_text())
    assert outcome(farm.job(waiting))["estimate"]["error"] is None, "it has not ended"
    assert relative_error({"machine_s": 0.0}, 5.0) is None


@pytest.mark.parametrize("kind", KINDS)
def test_accuracy_is_the_median_of_what_estimates_were_off_by(kind: str, tmp_path: Path) -> None:
    with database_url(kind, tmp_path) as url:
        farm = QueueFarm(SqlStore.open(url))

        def judged(studio: str = STUDIO, **more: Any) -> list[tuple[str, int, float, float]]:
            found = farm.dispatcher.read(lambda turn: accuracy(turn.tx, studio, **more))
            return [(one.task, one.jobs, one.typical, one.bias) for one in found]

        assert judged() == []
        said = f'{{"machine_s": {truth(24, 100, 1.0)}, "gpu_s": 0, "money": 0}}'
        do(farm, spec_of())
        for slower in (0.8, 1.3, 1.5):
            do(farm, spec_of(), slower=slower, estimate=said)
        assert judged() == [("roto", 3, 0.3, 0.3), ("", 3, 0.3, 0.3)]
        later = farm.clock.now + 1
        farm.clock.now += 10
        do(farm, spec_of(show="dune"), slower=0.9, estimate=said)
        assert judged(since=later) == judged(show="dune") == [("roto", 1, 0.1, -0.1), ("", 1, 0.1, -0.1)]
        assert judged(until=later) == [("roto", 3, 0.3, 0.3), ("", 3, 0.3, 0.3)]
        assert judged("guest") == []
        farm.close()
