"""Dropped into an inbox, a plate and its cut become a published version: real watchers, a real dispatcher and worker."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.media.exr import verify
from tests.acceptance.farmhouse import Farmhouse
from tests.plates import SmallPlate, write_small_plate


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farmhouse]:
    house = Farmhouse(tmp_path_factory.mktemp("house"))
    house.serve("--workers", "1")
    yield house
    house.close()


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> SmallPlate:
    return write_small_plate(tmp_path_factory.mktemp("shot"), count=5, width=96, height=64)


def job_file(small: SmallPlate, **more: object) -> str:
    keys = [{"frame": frame, "path": f"keys/{path.name}"} for frame, path in small.keys.items()]
    return json.dumps(
        {
            "task": "roto",
            "plate": "plate/sh010.####.exr",
            "keys": keys,
            "parameters": {"iterations": 0, "seed": 1},
            **more,
        }
    )


def arrive(drop: Path, plate: SmallPlate, *, pause_s: float) -> None:
    """Copy keys and plate, slowly, file by file, the last frame in two pieces."""
    (drop / "plate").mkdir(parents=True, exist_ok=True)
    (drop / "keys").mkdir(exist_ok=True)
    for path in plate.keys.values():
        shutil.copy(path, drop / "keys" / path.name)
    for frame in plate.frames:
        time.sleep(pause_s)
        raw = plate.pattern.path(frame).read_bytes()
        with (drop / "plate" / plate.pattern.name(frame)).open("wb") as file:
            file.write(raw[: len(raw) // 2])
            if frame == plate.frames.last:
                file.flush()
                time.sleep(pause_s)
            file.write(raw[len(raw) // 2 :])


def job_of(house: Farmhouse, inbox: Path, name: str) -> int:
    marker = inbox / "accepted" / name / ".platewright-submitted.json"
    house.wait(marker.exists, 40, f"{name} was not taken")
    return int(json.loads(marker.read_text())["job"])


@pytest.mark.parametrize("polling", [False, True], ids=["events", "polling"])
def test_a_drop_that_arrives_slowly_becomes_a_published_version_once(
    house: Farmhouse, plate: SmallPlate, tmp_path: Path, polling: bool
) -> None:
    inbox = tmp_path / "inbox"
    watcher = house.start("watch", str(inbox), "--settle", "3", "--rescan", "0.5", *(["--polling"] if polling else []))
    drop = inbox / "drop"
    drop.mkdir(parents=True)
    listed = {f"plate/{plate.pattern.name(f)}": plate.pattern.path(f).stat().st_size for f in plate.frames}
    body = {"show": "polled"} if polling else {"show": "told", "files": listed}
    (drop / "job.json").write_text(job_file(plate, **body))
    arrive(drop, plate, pause_s=0.3)
    job = job_of(house, inbox, "drop")
    ended = house.ended(job)
    assert ended["state"] == "succeeded", ended
    frames = sorted(Path(ended["version"]["path"]).glob("*.exr"))
    assert len(frames) == len(plate.frames)
    for frame in frames:
        verify(frame)
    bad = inbox / "bad"
    bad.mkdir()
    (bad / "job.json").write_text(job_file(plate, plate="../elsewhere"))
    worse = inbox / "worse"
    worse.mkdir()
    (worse / "job.json").write_text(job_file(plate))
    for name, words in (("bad", "leads out of the drop"), ("worse", "folder")):
        reason = inbox / "refused" / f"{name}.reason.txt"
        house.wait(lambda reason=reason: reason.exists(), 40, f"{name} was not refused")
        assert words in reason.read_text()
        house.wait((inbox / "refused" / name).is_dir, 5, f"{name} was not moved")
    assert not [p for p in inbox.iterdir() if p.name not in ("accepted", "refused")]
    watcher.send_signal(signal.SIGTERM)
    assert watcher.wait(timeout=10) == 0


def test_a_watcher_that_is_killed_and_a_dispatcher_that_is_away_cost_no_drop_and_double_none(
    house: Farmhouse, plate: SmallPlate, tmp_path: Path
) -> None:
    inbox = tmp_path / "inbox"
    arguments = ["watch", str(inbox), "--settle", "0.5", "--rescan", "0.3"]
    nowhere = Farmhouse(tmp_path / "nowhere", PLATEWRIGHT_URL="http://127.0.0.1:9", PLATEWRIGHT_TOKEN="x" * 40)
    nowhere.folder.mkdir()
    watcher = nowhere.start(*arguments)
    before = {job["id"] for job in house.client().get("/v1/jobs")}
    arrive(inbox / "drop", plate, pause_s=0)
    (inbox / "drop" / "job.json").write_text(job_file(plate, pool="nobody"))
    house.wait((inbox / "accepted" / "drop").is_dir, 20, "the drop was not taken")
    time.sleep(0.5)
    assert watcher.poll() is None, "it waits for the dispatcher"
    watcher.kill()
    watcher.wait()
    nowhere.close()
    watchers = [house.start(*arguments) for _ in range(2)]
    job = job_of(house, inbox, "drop")
    time.sleep(1)
    assert {j["id"] for j in house.client().get("/v1/jobs")} - before == {job}
    assert all(w.poll() is None for w in watchers)
    house.client().post(f"/v1/jobs/{job}/cancel")
    assert list((inbox / "refused").iterdir()) == []
