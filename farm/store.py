"""The one door to the database: one writer that folds waiting operations into one transaction, and readers beside it.

Only the dispatcher's process opens the database. Every change is an operation, a function over a `Transaction`; the writer
thread takes all that wait (up to a batch), gives each a savepoint of its own, and commits them together: with
`synchronous=FULL` that costs one fsync for the batch instead of one for each. Nobody is told "done" before COMMIT returned.
On SQLite a single writing connection also keeps clear of the WAL-reset corruption of versions before 3.51.3, which
takes two connections that write or checkpoint; the readers here are opened read-only and can do neither.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import Connection, Engine, Executable, text

from farm import databases
from farm.databases import Database
from farm.statements import Statements, is_hot
from pipeline.errors import StorageError

T = TypeVar("T")
BATCH = 256
"""Operations that share one commit at most: bounds how long the first of them waits."""
Values = Mapping[str, Any]
Listener = Callable[[Sequence[object]], None]


class Transaction:
    """What an operation may touch: statements, and notes that are told to the listeners once it is committed.

    Rows have their columns as attributes. They stay inside the operation: what leaves it is a value of `farm/records.py`.
    """

    __slots__ = ("_connection", "_cursor", "_statements", "notes")

    def __init__(self, connection: Connection, statements: Statements) -> None:
        self._connection = connection
        self._cursor: Any = connection.connection.cursor()
        self._statements = statements
        self.notes: list[object] = []

    def execute(self, statement: Executable, values: Values | Sequence[Values] = MappingProxyType({})) -> int:
        """Run one statement, or the same one over many rows of values. Returns how many rows it changed."""
        if not is_hot(statement):
            return self._connection.execute(statement, values or None).rowcount
        if isinstance(values, Mapping):
            prepared = self._statements.prepared(statement, values)
            self._cursor.execute(prepared.text, prepared.values(values))
        else:
            prepared = self._statements.prepared(statement, values[0])
            self._cursor.executemany(prepared.text, [prepared.values(row) for row in values])
        return int(self._cursor.rowcount)

    def rows(self, statement: Executable, values: Values = MappingProxyType({})) -> Sequence[Any]:
        """Every row of the answer."""
        if not is_hot(statement):
            return self._connection.execute(statement, values or None).all()
        prepared = self._statements.prepared(statement, values)
        self._cursor.execute(prepared.text, prepared.values(values))
        return prepared.rows(self._cursor)

    def first(self, statement: Executable, values: Values = MappingProxyType({})) -> Any | None:
        """The first row, or None. The answer is read to its end: a half-read one would hold up the commit."""
        rows = self.rows(statement, values)
        return rows[0] if rows else None

    def tell(self, note: object) -> None:
        """Leave a note for the listeners; it is dropped when the operation or its commit fails."""
        self.notes.append(note)

    def close(self) -> None:
        """Let go of the driver's cursor."""
        self._cursor.close()


class Store(Protocol):
    """What the dispatcher needs of a database."""

    def submit(self, op: Callable[[Transaction], T]) -> Future[T]:
        """Queue a change. The future is done once it is committed, in the order of submission.

        The future raises what `op` raised (its own changes are undone, those of others in the batch stay), or StorageError
        when the database took nothing: full, read-only, gone.
        """
        ...

    def read(self, op: Callable[[Transaction], T]) -> T:
        """Look at one consistent state, without waiting for the writer where the database can do that. Raises: StorageError."""
        ...

    def listen(self, listener: Listener) -> None:
        """Call `listener`, on the writer's thread and in order, with the notes of every commit."""
        ...

    def close(self) -> None:
        """Finish what was queued, then let go of the database."""
        ...


@dataclass(frozen=True, slots=True)
class _Queued(Generic[T]):
    op: Callable[[Transaction], T]
    future: Future[T]

    def run(self, transaction: Transaction) -> Callable[[], None]:
        """Do it; the answer is how to tell the result, once the commit holds."""
        result = self.op(transaction)
        return lambda: self.future.set_result(result)


_NUMBER_JOBS = text("INSERT INTO sqlite_sequence (name, seq) VALUES ('job', :last)")


class SqlStore:
    """The store on SQLite (a file, or memory) and PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._listeners: list[Listener] = []
        self._queue: queue.SimpleQueue[_Queued[Any] | None] = queue.SimpleQueue()
        self._door = threading.Lock()
        self._closed = False
        try:
            self._connection: Connection | None = database.connect()
        except Exception:
            database.close()
            raise
        self._statements = Statements(self._connection.dialect)
        self._readers: Engine | None = database.readers()
        self._writer = threading.Thread(target=self._write, name="platewright-writer", daemon=True)
        self._writer.start()

    @classmethod
    def open(cls, url: str) -> SqlStore:
        """Open the database at `url` (`sqlite:///path` or `postgresql://…`), bring its schema up to date, and own it.

        Raises: StorageError (it can't be opened, another dispatcher owns it, or a newer version wrote it).
        """
        return cls(databases.of_url(url))

    @classmethod
    def at(cls, path: Path) -> SqlStore:
        """The SQLite file at `path`, made if it isn't there. Raises: as `open`."""
        return cls(databases.SqliteFile(path))

    @classmethod
    def in_memory(cls, *, first_job: int = 1) -> SqlStore:
        """A database that lives as long as this object: for `plates run`, and for tests. Jobs are numbered from `first_job`."""
        store = cls(databases.SqliteMemory())
        if first_job > 1:
            store.submit(lambda tx: tx.execute(_NUMBER_JOBS, {"last": first_job - 1})).result()
        return store

    def listen(self, listener: Listener) -> None:
        """See `Store`."""
        self._listeners.append(listener)

    def submit(self, op: Callable[[Transaction], T]) -> Future[T]:
        """See `Store`."""
        future: Future[T] = Future()
        with self._door:
            if self._closed:
                future.set_exception(StorageError("the dispatcher is shutting down", "try again when it is up"))
            else:
                self._queue.put(_Queued(op, future))
        return future

    def read(self, op: Callable[[Transaction], T]) -> T:
        """See `Store`. A database in memory has one connection only, so there a read takes its turn with the writes."""
        if self._readers is None:
            return self.submit(op).result()
        try:
            with self._readers.connect() as connection, connection.begin():
                transaction = Transaction(connection, self._statements)
                try:
                    return op(transaction)
                finally:
                    transaction.close()
        except self._database.faults as error:
            raise databases.storage_error(error) from error

    def close(self) -> None:
        """See `Store`."""
        with self._door:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._writer.join()
        if self._readers is not None:
            self._readers.dispose()
        self._database.close()

    def _write(self) -> None:
        ending = False
        while not ending:
            batch: list[_Queued[Any]] = []
            item = self._queue.get()
            while True:
                if item is None:
                    ending = True
                elif item.future.set_running_or_notify_cancel():
                    batch.append(item)
                if ending or len(batch) >= BATCH or self._queue.empty():
                    break
                item = self._queue.get()
            if batch:
                self._commit(batch)
        self._drop_connection()

    def _commit(self, batch: list[_Queued[Any]]) -> None:
        """One transaction for the batch. Futures are answered only after it."""
        try:
            answers, notes = self._attempt(batch)
        except StorageError as error:
            self._fail(batch, error)
            return
        except self._database.faults as error:
            fault = databases.storage_error(error)
            fault.__cause__ = error
            self._recover()
            self._fail(batch, fault)
            return
        # Listeners first: whoever sees the answer may rely on the event having been numbered before it.
        if notes:
            for listener in self._listeners:
                listener(notes)
        for answer in answers:
            answer()

    def _attempt(self, batch: list[_Queued[Any]]) -> tuple[list[Callable[[], None]], list[object]]:
        if self._connection is None:
            self._connection = self._database.connect()
        connection = self._connection
        answers: list[Callable[[], None]] = []
        notes: list[object] = []
        connection.begin()
        cursor = connection.connection.cursor()
        for item in batch:
            cursor.execute("SAVEPOINT op")
            transaction = Transaction(connection, self._statements)
            try:
                answer = item.run(transaction)
            except Exception as error:
                # A full disk has often undone the whole transaction already; nothing of the batch may be trusted then.
                if isinstance(error, self._database.faults) and not isinstance(error, self._database.refusals):
                    raise
                cursor.execute("ROLLBACK TO SAVEPOINT op")
                answers.append(_refusal(item, error))
            else:
                answers.append(answer)
                notes += transaction.notes
            finally:
                transaction.close()
            cursor.execute("RELEASE SAVEPOINT op")
        cursor.close()
        connection.commit()
        return answers, notes

    def _recover(self) -> None:
        """Leave the failed transaction; a connection that can't even do that is dropped, and made anew for the next batch."""
        assert self._connection is not None
        if self._database.only_connection:
            with suppress(*self._database.faults):
                self._connection.rollback()
            return
        self._drop_connection()

    def _drop_connection(self) -> None:
        if self._connection is not None:
            with suppress(*self._database.faults):
                self._connection.close()
            self._connection = None

    @staticmethod
    def _fail(batch: list[_Queued[Any]], error: StorageError) -> None:
        for item in batch:
            item.future.set_exception(error)


def _refusal(item: _Queued[Any], error: Exception) -> Callable[[], None]:
    return lambda: item.future.set_exception(error)
