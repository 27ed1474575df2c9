"""A database of the first version is brought up with all that it holds, and taken back down while it holds nothing newer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Connection, create_engine, inspect, text

from farm.databases import of_url
from farm.heldout import held_out, hold_out
from farm.migrations import configuration
from farm.states import JobKind, JobState
from farm.store import SqlStore
from farm.tables import METADATA
from pipeline.errors import StorageError
from tests.queue_kit import STUDIO, QueueFarm, database_url
from tests.unit.farm.test_registering import submit as submit_training

KINDS = ["file", pytest.param("postgres", marks=pytest.mark.postgres)]
ADDED = {"job": {"kind", "use", "estimate"}, "take": {"preset"}, "attempt": {"gpus", "rate"}}
FIRST = ("job", "take", "step", "chunk", "attempt", "worker", "version", "token")


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with database_url(request.param, tmp_path) as found:
        yield found


@contextmanager
def bare(url: str) -> Iterator[Connection]:
    """The database as its owner sees it, without anybody's rules."""
    database = of_url(url)
    connection = database.connect()
    try:
        yield connection
    finally:
        connection.close()
        database.close()


def move(url: str, way: Any, to: str) -> None:
    with bare(url) as connection:
        config = configuration()
        config.attributes["connection"] = connection
        way(config, to)
        connection.commit()


def rows(url: str) -> dict[str, list[dict[str, Any]]]:
    with bare(url) as connection:
        return {
            table: sorted(
                (dict(row._mapping) for row in connection.execute(text(f'SELECT * FROM "{table}"'))),
                key=lambda row: json.dumps(row, default=str, sort_keys=True),
            )
            for table in FIRST
        }


def old(kept: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """What a database of the first version can hold of them."""
    return {
        table: [{name: value for name, value in row.items() if name not in ADDED.get(table, ())} for row in found]
        for table, found in kept.items()
    }


def fill(url: str) -> dict[str, int]:
    """Jobs in every state, some of them under way."""
    farm = QueueFarm(SqlStore.open(url))
    try:
        done = farm.submit("1001-1008", fits=True, takes=2).id
        farm.finish()
        running = farm.submit("1001-1008", shot="sh020").id
        held = farm.take("w2")
        farm.beat(held, "w2", fraction=0.5, done_frames="1001")
        farm.fail(farm.take("w3"), "w3")
        cancelled = farm.submit("1001", shot="sh030").id
        farm.run(farm.dispatcher.cancel(STUDIO, cancelled))
        farm.run(farm.dispatcher.create_token(STUDIO, "ann", []))
        return {"done": done, "running": running, "cancelled": cancelled, "held": held.chunk_id}
    finally:
        farm.close()


def test_a_database_of_the_first_version_goes_down_and_up_again_with_every_row(url: str) -> None:
    jobs = fill(url)
    before = rows(url)
    move(url, command.downgrade, "0001")
    # What it holds as the first version would find it: no other table, no added column.
    with bare_without_upgrade(url) as connection:
        tables = {table: set(connection.execute(text(f'SELECT * FROM "{table}"')).keys()) for table in FIRST}
        for table, added in ADDED.items():
            assert not added & tables[table]
        assert len(connection.execute(text("SELECT * FROM chunk")).fetchall()) == len(before["chunk"])
    farm = QueueFarm(SqlStore.open(url))
    try:
        assert farm.job(jobs["done"]).job.state is JobState.SUCCEEDED
        assert [version.state for version in farm.job(jobs["done"]).job.versions] == ["published"] * 2
        assert farm.job(jobs["running"]).job.state is JobState.RUNNING
        assert farm.job(jobs["cancelled"]).job.state is JobState.CANCELLED
        assert {view.kind for view in farm.dispatcher.jobs(STUDIO)} == {JobKind.PLATE}
    finally:
        farm.close()
    after = rows(url)
    leases = ("lease_until", "progress_at")  # renewed by whoever opens the queue
    for found in (before, after):
        for row in found["chunk"]:
            for name in leases:
                del row[name]
    assert {t: len(found) for t, found in after.items()} == {t: len(found) for t, found in before.items()}
    assert sorted(map(str, old(after)["job"])) == sorted(map(str, old(before)["job"]))
    assert sorted(map(str, old(after)["attempt"])) == sorted(map(str, old(before)["attempt"]))
    assert sorted(map(str, old(after)["version"])) == sorted(map(str, old(before)["version"]))


@contextmanager
def bare_without_upgrade(url: str) -> Iterator[Connection]:
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def test_old_work_goes_on_where_it_stood_after_the_migration(url: str) -> None:
    jobs = fill(url)
    move(url, command.downgrade, "0001")
    farm = QueueFarm(SqlStore.open(url))
    try:
        (held,) = [chunk for chunk in farm.job(jobs["running"]).chunks if chunk.id == jobs["held"]]
        assert (held.state, held.worker, held.done_frames) == ("running", "w2", "1001")
        assert (held.attempts[-1].state, held.attempts[-1].worker) == ("running", "w2")
        farm.pass_time(farm.settings.lease_s + 300)
        farm.finish("w4")
        assert farm.job(jobs["running"]).job.state is JobState.SUCCEEDED
        assert farm.submit("1001", shot="sh040").versions[0].number == 1
        assert farm.submit("1001-1008").versions[0].number == 3, "the numbers that were given stay given"
    finally:
        farm.close()


def test_the_schema_after_down_and_up_is_the_same_as_before(url: str) -> None:
    SqlStore.open(url).close()
    before = schema(url)
    move(url, command.downgrade, "0001")
    SqlStore.open(url).close()
    assert schema(url) == before
    assert {table for table, _ in before} >= set(METADATA.tables)


def schema(url: str) -> set[tuple[str, str]]:
    with bare(url) as connection:
        found = inspect(connection)
        columns = {
            (table, f"{c['name']} {c['type']} {c['nullable']} {c['default']}")
            for table in found.get_table_names()
            for c in found.get_columns(table)
        }
        return columns | {
            (table, f"index {i['name']} {i['column_names']} {bool(i['unique'])}")
            for table in found.get_table_names()
            for i in found.get_indexes(table)
        }


def test_a_database_that_holds_trainings_does_not_go_back(url: str) -> None:
    farm = QueueFarm(SqlStore.open(url))
    submit_training(farm)
    farm.run(farm.dispatcher.write(partial(hold_out, studio=STUDIO, task="roto", shots=[("s", "", "a")], by="ann")))
    farm.close()
    with pytest.raises(StorageError, match="holds held_out, jobs that train"):
        move(url, command.downgrade, "0001")
    farm = QueueFarm(SqlStore.open(url))
    try:
        assert [view.kind for view in farm.dispatcher.jobs(STUDIO)] == [JobKind.TRAINING]
        assert farm.dispatcher.read(lambda turn: held_out(turn.tx, STUDIO, "roto")) == {("s", "", "a")}
    finally:
        farm.close()
