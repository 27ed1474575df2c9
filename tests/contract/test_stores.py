"""Every database keeps the same promises: SQLite in a file and in memory, and PostgreSQL."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, insert, select, text

from farm.databases import DatabaseFullError
from farm.records import WorkFacts
from farm.store import SqlStore, Transaction
from farm.tables import METADATA, WORKER
from pipeline.errors import StateError, StorageError
from tests.queue_kit import STUDIO, QueueFarm, database_url, job_spec, job_steps, postgres_schema

KINDS = ["file", "memory", pytest.param("postgres", marks=pytest.mark.postgres)]
LASTING = ["file", pytest.param("postgres", marks=pytest.mark.postgres)]


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with database_url(request.param, tmp_path) as address:
        yield address


@pytest.fixture(params=LASTING)
def lasting_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with database_url(request.param, tmp_path) as address:
        yield address


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    opened = SqlStore.open(url)
    yield opened
    opened.close()


@pytest.fixture
def lasting_store(lasting_url: str) -> Iterator[SqlStore]:
    opened = SqlStore.open(lasting_url)
    yield opened
    opened.close()


def add_worker(tx: Transaction, name: str, size: int = 0) -> str:
    row = {"studio": STUDIO, "name": name, "host": "x" * size, "pools": "", "tags": "{}", "memory_mb": 1}
    tx.execute(insert(WORKER), row | {"model": "", "software": "", "first_seen": 0.0, "last_seen": 0.0})
    tx.tell(name)
    return name


def names(tx: Transaction) -> list[str]:
    return [row.name for row in tx.rows(select(WORKER.c.name).order_by(WORKER.c.name))]


class Gate:
    """Holds the writer inside of an operation, so that what comes after it has to wait and is taken as one batch."""

    def __init__(self, store: SqlStore) -> None:
        self._inside, self._open = threading.Event(), threading.Event()
        self.held: Future[None] = store.submit(self._wait)
        assert self._inside.wait(10)

    def _wait(self, _: Transaction) -> None:
        self._inside.set()
        assert self._open.wait(10)

    def open(self) -> None:
        self._open.set()
        self.held.exception(10)


def test_a_job_runs_from_submission_to_its_published_version(url: str) -> None:
    farm = QueueFarm(SqlStore.open(url))
    try:
        job = farm.submit(fits=True)
        assert farm.finish() == 5
        detail = farm.job(job.id)
        assert (detail.job.state, detail.job.progress) == ("succeeded", 1.0)
        assert [version.state for version in detail.job.versions] == ["published"]
    finally:
        farm.close()


def test_what_was_answered_can_be_read(store: SqlStore) -> None:
    assert store.submit(lambda tx: add_worker(tx, "a")).result(10) == "a"
    assert store.read(names) == ["a"]


def test_operations_that_wait_share_a_commit_and_keep_their_order(store: SqlStore) -> None:
    commits: list[Sequence[object]] = []
    store.listen(commits.append)
    gate = Gate(store)
    futures = [store.submit(lambda tx, name=name: add_worker(tx, name)) for name in "cab"]
    gate.open()
    assert [future.result(10) for future in futures] == ["c", "a", "b"]
    assert commits == [["c", "a", "b"]]


def test_an_operation_that_raises_undoes_itself_and_nobody_else(store: SqlStore) -> None:
    def refuse(tx: Transaction) -> None:
        add_worker(tx, "undone")
        raise StateError("no")

    told: list[object] = []
    store.listen(told.extend)
    gate = Gate(store)
    before = store.submit(lambda tx: add_worker(tx, "before"))
    refused = store.submit(refuse)
    twice = store.submit(lambda tx: add_worker(tx, "before"))
    after = store.submit(lambda tx: add_worker(tx, "after"))
    gate.open()
    assert (before.result(10), after.result(10)) == ("before", "after")
    assert isinstance(refused.exception(10), StateError)
    assert twice.exception(10) is not None
    assert store.read(names) == ["after", "before"]
    assert told == ["before", "after"]


def test_a_future_that_was_cancelled_in_time_is_not_carried_out(store: SqlStore) -> None:
    gate = Gate(store)
    future = store.submit(lambda tx: add_worker(tx, "a"))
    assert future.cancel()
    gate.open()
    store.submit(lambda tx: None).result(10)
    assert store.read(names) == []


def test_a_closed_store_finishes_what_it_took_and_takes_no_more(lasting_url: str) -> None:
    store = SqlStore.open(lasting_url)
    gate = Gate(store)
    queued = store.submit(lambda tx: add_worker(tx, "a"))
    closing = threading.Thread(target=store.close)
    closing.start()
    gate.open()
    closing.join(10)
    assert queued.result(0) == "a"
    with pytest.raises(StorageError, match="shutting down"):
        store.submit(names).result(0)


def test_a_read_does_not_wait_for_a_busy_writer(lasting_store: SqlStore) -> None:
    lasting_store.submit(lambda tx: add_worker(tx, "a")).result(10)
    inside, go_on = threading.Event(), threading.Event()

    def slow(tx: Transaction) -> None:
        add_worker(tx, "b")
        inside.set()
        assert go_on.wait(10)

    future = lasting_store.submit(slow)
    assert inside.wait(10)
    try:
        assert lasting_store.read(names) == ["a"]
    finally:
        go_on.set()
    future.result(10)
    assert lasting_store.read(names) == ["a", "b"]


def test_a_read_can_not_write(lasting_store: SqlStore) -> None:
    with pytest.raises(StorageError):
        lasting_store.read(lambda tx: add_worker(tx, "a"))
    assert lasting_store.read(names) == []


def test_a_second_dispatcher_on_the_same_database_is_refused(lasting_url: str) -> None:
    first = SqlStore.open(lasting_url)
    try:
        with pytest.raises(StorageError, match="another dispatcher already uses") as refusal:
            SqlStore.open(lasting_url)
        assert "PLATEWRIGHT_DATA" in refusal.value.hint
        first.submit(lambda tx: add_worker(tx, "a")).result(10)
    finally:
        first.close()
    second = SqlStore.open(lasting_url)
    assert second.read(names) == ["a"]
    second.close()


def test_threads_that_submit_at_once_never_share_a_version_number(url: str) -> None:
    farm = QueueFarm(SqlStore.open(url))
    try:
        numbers: list[int] = []

        def submit() -> None:
            for _ in range(5):
                submission = farm.dispatcher.submit(job_spec(takes=2), job_steps(takes=2), work=WorkFacts("roto", 1))
                numbers.extend(version.number for version in asyncio.run(submission).job.versions)

        threads = [threading.Thread(target=submit) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(numbers) == list(range(1, 41))
    finally:
        farm.close()


def test_a_full_database_refuses_says_so_and_goes_on_once_there_is_space(tmp_path: Path) -> None:
    store = SqlStore.at(tmp_path / "queue.db")
    pages = store.submit(lambda tx: tx.rows(text("PRAGMA page_count"))[0][0]).result(10)
    store.submit(lambda tx: tx.execute(text(f"PRAGMA max_page_count = {pages + 8}"))).result(10)
    kept: list[str] = []
    refused = 0
    for i in range(40):
        gate = Gate(store)
        futures = [store.submit(lambda tx, name=f"{i:02}-{j}": add_worker(tx, name, 2_000)) for j in range(2)]
        gate.open()
        for future in futures:
            try:
                kept.append(future.result(10))
            except DatabaseFullError as error:
                refused += 1
                assert "full" in error.message and "space" in error.hint
    assert kept and refused
    assert store.read(names) == kept
    store.submit(lambda tx: tx.execute(text("PRAGMA max_page_count = 1000000"))).result(10)
    assert store.submit(lambda tx: add_worker(tx, "zz", 2_000)).result(10) == "zz"
    assert store.read(names) == [*kept, "zz"]
    store.close()


def test_a_full_memory_database_keeps_what_it_has() -> None:
    store = SqlStore.in_memory()
    store.submit(lambda tx: add_worker(tx, "a")).result(10)
    pages = store.submit(lambda tx: tx.rows(text("PRAGMA page_count"))[0][0]).result(10)
    store.submit(lambda tx: tx.execute(text(f"PRAGMA max_page_count = {pages + 2}"))).result(10)
    with pytest.raises(DatabaseFullError):
        store.submit(lambda tx: add_worker(tx, "b", 50_000)).result(10)
    assert store.submit(lambda tx: add_worker(tx, "c")).result(10) == "c"
    assert store.read(names) == ["a", "c"]
    store.close()


@pytest.mark.postgres
def test_a_postgres_server_that_drops_every_connection_is_reached_again() -> None:
    with postgres_schema() as url:
        store = SqlStore.open(url)
        try:
            store.submit(lambda tx: add_worker(tx, "a")).result(10)
            assert store.read(names) == ["a"]
            own = store.submit(lambda tx: tx.rows(text("SELECT pg_backend_pid(), current_schema()"))[0]).result(10)
            with psycopg.connect(url, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s)", (own[0],))
                other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query LIKE %s",
                    ("SELECT worker.name%",),
                )
            with pytest.raises(StorageError, match="can't be used"):
                store.submit(lambda tx: add_worker(tx, "lost")).result(10)
            assert store.submit(lambda tx: add_worker(tx, "b")).result(10) == "b"
            assert store.read(names) == ["a", "b"]
            with pytest.raises(StorageError, match="another dispatcher"):
                SqlStore.open(url)
        finally:
            store.close()


WRITER = """
import sys
from farm.store import SqlStore
from tests.contract.test_stores import add_worker
store = SqlStore.open(sys.argv[1])
for i in range(1_000_000):
    print(store.submit(lambda tx: add_worker(tx, f"{i:07}")).result(), flush=True)
"""


def test_everything_that_was_acknowledged_survives_a_kill(lasting_url: str) -> None:
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, lasting_url], cwd=root, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        heard = [writer.stdout.readline().strip() for _ in range(50)]
        writer.kill()
        heard += [line.strip() for line in writer.stdout if line.endswith("\n")]
    store = _open_soon(lasting_url)
    kept = store.read(names)
    store.close()
    assert heard == kept[: len(heard)]
    assert len(kept) - len(heard) <= 1


def _open_soon(url: str) -> SqlStore:
    """PostgreSQL takes a moment to notice that the killed process, and with it the ownership, is gone."""
    for _ in range(100):
        try:
            return SqlStore.open(url)
        except StorageError:
            time.sleep(0.1)
    return SqlStore.open(url)


def declare(url: str) -> None:
    engine = create_engine(url)
    METADATA.create_all(engine)
    engine.dispose()


def test_the_migrated_sqlite_schema_is_the_declared_one(tmp_path: Path) -> None:
    SqlStore.at(tmp_path / "migrated.db").close()
    declare(f"sqlite:///{tmp_path / 'declared.db'}")

    def schema(name: str) -> set[tuple[str, tuple[str, ...]]]:
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        return {(name, _in_any_order(sql)) for name, sql in rows if name != "alembic_version"}

    assert schema("migrated.db") == schema("declared.db")
    assert len(schema("declared.db")) > 15


def _in_any_order(sql: str) -> tuple[str, ...]:
    """A declaration, whatever the order of its columns and constraints: what is added later stands last."""
    head, _, body = sql.partition("(")
    parts, depth = [""], 0
    for sign in body[: body.rindex(")")]:
        depth += {"(": 1, ")": -1}.get(sign, 0)
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return (" ".join(head.split()), *sorted(" ".join(part.split()) for part in parts), sql[sql.rindex(")") :])


@pytest.mark.postgres
def test_the_migrated_postgres_schema_is_the_declared_one() -> None:
    def schema(url: str) -> set[tuple[str, ...]]:
        with psycopg.connect(url) as connection:
            found = connection.execute("SELECT current_schema()").fetchone()
            assert found is not None
            columns = connection.execute(
                "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns"
                " WHERE table_schema = current_schema() AND table_name <> 'alembic_version'"
            ).fetchall()
            indexes = connection.execute(
                "SELECT indexname, indexdef FROM pg_indexes"
                " WHERE schemaname = current_schema() AND tablename <> 'alembic_version'"
            ).fetchall()
            keys = connection.execute(
                "SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint"
                " WHERE connamespace = current_schema()::regnamespace AND conrelid::regclass::text <> 'alembic_version'"
            ).fetchall()
        return {tuple(str(part).replace(found[0], "") for part in row) for row in (*columns, *indexes, *keys)}

    with postgres_schema() as migrated, postgres_schema() as declared:
        SqlStore.open(migrated).close()
        declare(declared.replace("postgresql:", "postgresql+psycopg:"))
        assert schema(migrated) == schema(declared)
        assert len(schema(declared)) > 80


def test_a_database_of_a_newer_version_is_left_alone(lasting_url: str) -> None:
    store = SqlStore.open(lasting_url)
    store.submit(lambda tx: tx.execute(text("UPDATE alembic_version SET version_num = 'from-the-future'"))).result(10)
    store.close()
    with pytest.raises(StorageError, match="from-the-future"):
        SqlStore.open(lasting_url)


def test_what_is_no_database_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("this is no database, but it is long enough to be looked at as one" * 40)
    with pytest.raises(StorageError, match="not a database"):
        SqlStore.at(tmp_path / "text.db")
    with pytest.raises(StorageError, match="kind 'mysql'"):
        SqlStore.open("mysql://host/name")
    with pytest.raises(StorageError, match="not a database address"):
        SqlStore.open("nonsense")
