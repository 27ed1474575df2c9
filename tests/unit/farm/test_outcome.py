"""The one object that says what became of a job: its shape is a promise to every program that reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from farm.outcome import outcome
from farm.states import FailureKind
from tests.queue_kit import QueueFarm, open_farm

PUBLISHED: dict[str, Any] = {
    "version": {"name": "n", "path": "/p", "frames": "1001-1004", "layers": ["rgb", "matte"], "colorspace": "c"},
    "report": {"frames": [{"frame": 1001, "confidence": 0.9}]},
    "timings": {"fit_s": 1.5, "infer_s": 2.5, "publish_s": 0.5},
}


@pytest.fixture
def farm() -> Iterator[QueueFarm]:
    with open_farm() as farm:
        yield farm


def told(farm: QueueFarm, job: int) -> dict[str, Any]:
    found = outcome(farm.job(job))
    assert json.loads(json.dumps(found)) == found, "plain JSON"
    return found


def test_a_job_that_waits_has_no_version_and_no_report_yet(farm: QueueFarm) -> None:
    job = farm.submit("1001-1004").id
    assert told(farm, job) == {
        "job": job, "state": "waiting", "version": None, "report": None,
        "timings": {"waited_s": None, "total_s": None}, "takes": [], "message": "", "hint": "",
        "cost": {"machine_s": 0.0, "gpu_s": 0.0, "money": 0.0, "lost_s": 0.0, "currency": ""},
        "estimate": None, "model": None, "replay": None,
    }  # fmt: skip


def test_a_published_job_has_what_its_publish_found_and_how_long_everything_took(farm: QueueFarm) -> None:
    job = farm.submit("1001-1004").id
    farm.clock.now += 2
    infer = farm.take()
    farm.clock.now += 5
    assert farm.done(infer)
    publish = farm.take()
    assert publish.step == "publish"
    farm.clock.now += 1
    assert farm.done(publish, result=PUBLISHED)
    found = told(farm, job)
    assert (found["state"], found["version"], found["report"]) == (
        "succeeded", PUBLISHED["version"], PUBLISHED["report"],
    )  # fmt: skip
    assert found["timings"] == {"fit_s": 1.5, "infer_s": 2.5, "publish_s": 0.5, "waited_s": 2.0, "total_s": 8.0}


def test_a_failed_and_a_cancelled_job_say_why_and_have_no_version(farm: QueueFarm) -> None:
    failed = farm.submit("1001-1004").id
    farm.fail(farm.take(), kind=FailureKind.REFUSED, why="the plate is gone")
    found = told(farm, failed)
    assert (found["state"], found["version"], found["report"], found["hint"]) == (
        "failed",
        None,
        None,
        "look at the log",
    )
    assert "the plate is gone" in found["message"]
    assert found["timings"]["total_s"] is not None
    cancelled = farm.submit("1001-1004").id
    farm.run(farm.dispatcher.cancel("local", cancelled))
    assert (told(farm, cancelled)["state"], told(farm, cancelled)["version"]) == ("cancelled", None)


def test_a_publish_that_came_after_the_cancel_is_not_shown_as_a_version(farm: QueueFarm) -> None:
    job = farm.submit("1001-1004").id
    farm.done(farm.take())
    publish = farm.take()
    farm.run(farm.dispatcher.cancel("local", job))
    assert not farm.done(publish, result=PUBLISHED)
    assert told(farm, job)["version"] is None
