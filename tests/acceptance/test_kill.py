"""kill -9 of a session child, of a worker, of the dispatcher, each in the middle of a job: every frame once, the version
whole, no process left behind, and nobody has to lend a hand."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psutil
import pytest

from pipeline.media.exr import verify
from tests.acceptance.farmhouse import Farmhouse
from tests.plates import SmallPlate, write_small_plate

FRAMES = 14


@pytest.fixture
def plate(tmp_path: Path) -> SmallPlate:
    return write_small_plate(tmp_path / "shot", count=FRAMES, width=480, height=270)


def submit(house: Farmhouse, plate: SmallPlate) -> int:
    """A job of many chunks of one frame, so that there is a middle to hit."""
    parameters = {"iterations": 2, "seed": 5}
    return int(house.submit(plate.request(parameters=parameters, chunk_frames=1), key="the-job")["job"])


def chunks(house: Farmhouse, job: int, step: str, state: str) -> list[dict]:
    return [c for c in house.job(job)["chunks"] if c["step"] == step and c["state"] == state]


def middle(house: Farmhouse, job: int, *, done: int) -> None:
    """Wait until some infer chunks are done and one runs."""
    house.wait(
        lambda: len(chunks(house, job, "infer", "succeeded")) >= done and bool(chunks(house, job, "infer", "running")),
        120,
        f"no infer chunk runs after {done} are done",
    )


def check_whole(house: Farmhouse, job: int, plate: SmallPlate) -> None:
    outcome = house.ended(job, 240)
    assert outcome["state"] == "succeeded", outcome
    folder = Path(outcome["version"]["path"])
    files = sorted(folder.glob("*.exr"))
    assert [int(f.name.split(".")[-2]) for f in files] == list(plate.frames)
    for file in files:
        verify(file)
    assert [p.name for p in folder.parent.iterdir()] == ["v001"], "nothing half-published lies beside it"
    detail = house.job(job)
    for chunk in detail["chunks"]:
        accepted = [a for a in chunk["attempts"] if a["state"] == "succeeded"]
        assert len(accepted) == 1, f"{chunk['step']} {chunk['frames']} was accepted {len(accepted)} times"


def test_a_killed_session_child_costs_one_attempt(farmhouse: Farmhouse, plate: SmallPlate) -> None:
    farmhouse.serve()
    worker = farmhouse.worker("--name", "one")
    job = submit(farmhouse, plate)
    middle(farmhouse, job, done=2)
    (session,) = farmhouse.sessions(worker)
    session.kill()
    check_whole(farmhouse, job, plate)
    failed = [a for c in farmhouse.job(job)["chunks"] for a in c["attempts"] if a["state"] == "failed"]
    assert len(failed) <= 1
    assert all("SIGKILL" in attempt["reason"] for attempt in failed)
    assert worker.poll() is None, "the worker itself goes on"


def test_a_killed_worker_leaves_no_orphan_and_its_chunk_is_leased_again(
    farmhouse: Farmhouse, plate: SmallPlate
) -> None:
    farmhouse.serve()
    first = farmhouse.worker("--name", "first")
    job = submit(farmhouse, plate)
    middle(farmhouse, job, done=2)
    sessions = farmhouse.sessions(first)
    assert sessions
    first.send_signal(signal.SIGKILL)
    first.wait()
    _, alive = psutil.wait_procs(sessions, timeout=5)
    assert not alive, "the session outlives its worker"
    farmhouse.worker("--name", "second")
    check_whole(farmhouse, job, plate)
    assert {c["attempts"][-1]["worker"] for c in farmhouse.job(job)["chunks"]} == {"first", "second"}


def test_a_killed_dispatcher_loses_nothing_and_the_workers_wait_for_it(farmhouse: Farmhouse, plate: SmallPlate) -> None:
    dispatcher = farmhouse.serve()
    worker = farmhouse.worker("--name", "one")
    job = submit(farmhouse, plate)
    for done in (2, 5):
        middle(farmhouse, job, done=done)
        before = {c["id"] for c in chunks(farmhouse, job, "infer", "succeeded")}
        dispatcher.send_signal(signal.SIGKILL)
        dispatcher.wait()
        time.sleep(1.0)
        dispatcher = farmhouse.serve()
        assert before <= {c["id"] for c in chunks(farmhouse, job, "infer", "succeeded")}, (
            "what was acknowledged is kept"
        )
    again = farmhouse.submit(plate.request(parameters={"iterations": 2, "seed": 5}, chunk_frames=1), key="the-job")
    assert (again["job"], again["created"]) == (job, False)
    check_whole(farmhouse, job, plate)
    assert worker.poll() is None


def test_nothing_is_left_behind_when_the_farm_stops(farmhouse: Farmhouse, plate: SmallPlate) -> None:
    dispatcher = farmhouse.serve("--workers", "1")
    job = submit(farmhouse, plate)
    middle(farmhouse, job, done=1)
    dispatcher.send_signal(signal.SIGTERM)
    assert dispatcher.wait(timeout=30) == 0
    farmhouse.wait(lambda: not farmhouse.ours(), 10, "processes are left behind")
    farmhouse.serve("--workers", "1")
    check_whole(farmhouse, job, plate)
    farmhouse.processes[-1].send_signal(signal.SIGKILL)
    farmhouse.processes[-1].wait()
    farmhouse.wait(lambda: not farmhouse.ours(), 15, "processes outlive a killed dispatcher")


def test_a_cancelled_job_gives_its_version_back_and_its_session_goes_on_warm(
    farmhouse: Farmhouse, plate: SmallPlate
) -> None:
    farmhouse.serve()
    worker = farmhouse.worker("--name", "one")
    job = submit(farmhouse, plate)
    middle(farmhouse, job, done=1)
    sessions = [p.pid for p in farmhouse.sessions(worker)]
    assert farmhouse.plates("cancel", str(job)).returncode == 0
    assert farmhouse.ended(job)["state"] == "cancelled"
    assert not (farmhouse.published / "show").exists()
    second = int(farmhouse.submit(plate.request())["job"])
    assert farmhouse.ended(second)["version"]["name"].endswith("_v001")
    assert [p.pid for p in farmhouse.sessions(worker)] == sessions, "cancelling does not cost the warm model"
