"""A whole job with the queue on PostgreSQL, its dispatcher killed in the middle: the same farm, another database."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pipeline.media.exr import verify
from tests.acceptance.farmhouse import Farmhouse, parsed
from tests.plates import write_small_plate
from tests.queue_kit import postgres_schema

pytestmark = pytest.mark.postgres


@pytest.fixture
def url() -> Iterator[str]:
    with postgres_schema() as address:
        yield address


@pytest.fixture
def house(tmp_path: Path, url: str) -> Iterator[Farmhouse]:
    house = Farmhouse(tmp_path, PLATEWRIGHT_DATABASE_URL=url, PLATEWRIGHT_LEASE_S="4", PLATEWRIGHT_REAP_S="0.5")
    yield house
    house.close()


def test_a_whole_job_runs_on_postgresql_though_its_dispatcher_is_killed(
    house: Farmhouse, url: str, tmp_path: Path
) -> None:
    plate = write_small_plate(tmp_path / "shot", count=8, width=160, height=96)
    dispatcher = house.serve()
    worker = house.worker("--name", "one")
    request = plate.request(cut=str(plate.cut), clip="sh010", chunk_frames=1)
    job = house.submit(request, key="the-job")["job"]

    def done() -> int:
        return sum(c["state"] == "succeeded" for c in house.job(job)["chunks"] if c["step"] == "infer")

    house.wait(lambda: done() >= 2, 90, "no infer chunk is done")
    before = done()
    dispatcher.send_signal(signal.SIGKILL)
    dispatcher.wait()
    with psycopg.connect(url) as database:
        kept = database.execute("SELECT count(*) FROM chunk WHERE step = 'infer' AND state = 'succeeded'").fetchone()
    assert kept is not None
    assert kept[0] >= before, "what was acknowledged lies in the database"
    house.serve()
    assert house.submit(request, key="the-job")["created"] is False
    ended = house.ended(job)
    assert ended["state"] == "succeeded", ended
    frames = sorted(Path(ended["version"]["path"]).glob("*.exr"))
    assert [int(path.name.split(".")[-2]) for path in frames] == list(plate.frames)
    for path in frames:
        verify(path)
    for chunk in house.job(job)["chunks"]:
        assert [a["state"] for a in chunk["attempts"]].count("succeeded") == 1, chunk
    assert worker.poll() is None
    status = parsed(house.plates("status", "--json"))
    assert status["database"] == "postgresql"
    assert status["jobs"]["succeeded"] == 1
    assert not list(house.data.glob("*.db"))
    second = house.submit(plate.request())["job"]
    assert house.ended(second)["version"]["name"].endswith("_v002")


def test_a_postgresql_that_is_not_there_ends_the_start_in_words(tmp_path: Path) -> None:
    house = Farmhouse(tmp_path, PLATEWRIGHT_DATABASE_URL="postgresql://nobody@127.0.0.1:9/nothing")
    said = house.plates("serve", timeout_s=60)
    assert said.returncode in (3, 4)
    assert "Traceback" not in said.stderr
    assert "127.0.0.1" in said.stderr or "PostgreSQL" in said.stderr
    assert not house.ours()
