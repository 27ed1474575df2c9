"""The queue's statements: straight to the driver, by the right index, with whatever text a worker sends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import bindparam, select, text

from farm.records import WorkerHello
from farm.statements import hot
from farm.states import FailureKind
from farm.store import SqlStore, Transaction
from farm.tables import CHUNK
from tests.queue_kit import STUDIO, QueueFarm, database_url

KINDS = ["file", pytest.param("postgres", marks=pytest.mark.postgres)]


@pytest.fixture(params=KINDS)
def farm(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[QueueFarm]:
    with database_url(request.param, tmp_path) as url:
        opened = QueueFarm(SqlStore.open(url))
        yield opened
        opened.close()


def test_text_that_postgres_can_not_hold_is_kept_without_its_nul(farm: QueueFarm) -> None:
    job = farm.submit("1001")
    farm.fail(farm.take(), why="a log with \x00 in it, and 'quotes', % and ü")
    (attempt,) = farm.job(job.id).chunks[0].attempts
    assert attempt.reason == "a log with \ufffd in it, and 'quotes', % and ü"


def test_a_hot_statement_and_a_plain_one_answer_alike(farm: QueueFarm) -> None:
    farm.submit(size=3)
    plain = select(CHUNK.c.id, CHUNK.c.frames).where(CHUNK.c.idx >= bindparam("least")).order_by(CHUNK.c.id).limit(2)
    kept = hot(
        select(CHUNK.c.id, CHUNK.c.frames).where(CHUNK.c.idx >= bindparam("least")).order_by(CHUNK.c.id).limit(2)
    )

    def look(tx: Transaction) -> None:
        for least in (0, 1, 99):
            rows = tx.rows(kept, {"least": least})
            assert [tuple(row) for row in rows] == [tuple(row) for row in tx.rows(plain, {"least": least})]
            assert [row.frames for row in rows] == [row.frames for row in tx.rows(plain, {"least": least})]

    farm.store.read(look)
    farm.store.submit(look).result(10)


def test_a_hot_statement_without_one_of_its_values_is_refused(farm: QueueFarm) -> None:
    kept = hot(select(CHUNK.c.id).where(CHUNK.c.idx == bindparam("number")))
    with pytest.raises(KeyError, match="number"):
        farm.store.submit(lambda tx: tx.rows(kept, {"nmber": 1})).result(10)


@contextmanager
def statements_of(store: SqlStore) -> Iterator[list[str]]:
    """What SQLite is given, with the values filled in."""
    sent: list[str] = []
    connection = store._connection
    assert connection is not None
    driver = connection.connection.driver_connection
    assert driver is not None
    driver.set_trace_callback(sent.append)
    try:
        yield sent
    finally:
        driver.set_trace_callback(None)


def test_no_statement_of_the_daily_round_scans_the_chunks(tmp_path: Path) -> None:
    farm = QueueFarm(SqlStore.at(tmp_path / "queue.db"))
    try:
        farm.submit(fits=True, model="net")
        farm.submit(model="other", priority=60)
        with statements_of(farm.store) as sent:
            held = farm.take("w1", model="net")
            farm.beat(held, "w1", fraction=0.5)
            farm.complete(held, "w1", claim=WorkerHello("w1", STUDIO, model="net"))
            farm.fail(farm.take("w2"), "w2", FailureKind.STORAGE)
            farm.fail(farm.take("w2"), "w2")
            farm.claim("w3")
            farm.pass_time(60)
            farm.run(farm.dispatcher.arrive(WorkerHello("w1", STUDIO)))
            farm.run(farm.dispatcher.leave(STUDIO, "w1"))
        looked_at = {s for s in sent if s.startswith(("SELECT", "UPDATE"))}
        assert len(looked_at) > 20

        def plans(tx: Transaction) -> list[tuple[str, str]]:
            return [
                (row.detail, statement)
                for statement in looked_at
                for row in tx.rows(text("EXPLAIN QUERY PLAN " + statement.replace(":", r"\:")))
            ]

        scans = [(plan, statement) for plan, statement in farm.store.submit(plans).result(10) if "SCAN chunk" in plan]
        assert scans == []
    finally:
        farm.close()
