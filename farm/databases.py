"""The databases that the store runs on: how each is opened, owned by one dispatcher alone, and what its faults mean."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, exc, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool, QueuePool

from farm.tables import METADATA
from pipeline.errors import PipelineError, StorageError

READERS = 4
_FULL = "free some space where the dispatcher keeps its data; work goes on by itself"


_DURABLE = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "cache_size=-16000",
    "journal_size_limit=67108864",
)


class DatabaseFullError(StorageError):
    """The disk under the database is full: HTTP calls it 507."""


class Database(Protocol):
    """One kind of database."""

    faults: tuple[type[Exception], ...]
    """What its driver raises."""
    refusals: tuple[type[Exception], ...]
    """Those of them that are an operation's own fault, such as a row that is there already."""
    only_connection: bool
    """Whether closing the writer's connection would lose the data."""

    def connect(self) -> Connection:
        """The writer's connection, with the schema up to date and the database owned. Raises: StorageError."""
        ...

    def readers(self) -> Engine | None:
        """Where reads go, or None when they have to share the writer's connection."""
        ...

    def close(self) -> None:
        """Give the ownership back."""
        ...


def of_url(url: str) -> Database:
    """The database at an address. Raises: StorageError (not an address, or not a kind that is known)."""
    try:
        parsed = make_url(url)
    except exc.ArgumentError as error:
        raise StorageError(
            f"{url!r} is not a database address", "sqlite:///PATH or postgresql://USER@HOST/NAME"
        ) from error
    kind = parsed.get_backend_name()
    if kind == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            return SqliteMemory()
        assert parsed.database is not None
        return SqliteFile(Path(parsed.database))
    if kind in ("postgresql", "postgres"):
        return Postgres(parsed.set(drivername="postgresql+psycopg").render_as_string(hide_password=False))
    raise StorageError(f"databases of the kind {kind!r} are not supported", "use sqlite:///PATH or postgresql://…")


class SqliteMemory:
    """SQLite in memory: one connection, gone with it."""

    only_connection = True

    def __init__(self) -> None:
        self.faults, self.refusals = _faults(sqlite3)

    def connect(self) -> Connection:
        """See `Database`. A fresh database needs no history of migrations: it is made as the tables are declared."""
        connection = _sqlite_engine(lambda: _sqlite(":memory:", pragmas=("foreign_keys=ON",)), NullPool).connect()
        METADATA.create_all(connection)
        connection.commit()
        return connection

    def readers(self) -> None:
        """None: another connection would see another database."""

    def close(self) -> None:
        """Nothing is owned."""


class SqliteFile:
    """SQLite in a file, in write-ahead mode: readers never wait for the writer, nor it for them."""

    only_connection = False

    def __init__(self, path: Path) -> None:
        self.faults, self.refusals = _faults(sqlite3)
        self._path = path.absolute()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StorageError(
                f"{self._path.parent} can't be made: {error.strerror}", "choose another data folder"
            ) from error
        self._lock = _own(self._path.with_name(self._path.name + ".lock"))

    def connect(self) -> Connection:
        """See `Database`."""
        try:
            connection = _sqlite_engine(lambda: _sqlite(str(self._path), pragmas=_DURABLE), NullPool).connect()
            _upgrade(connection)
        except self.faults as error:
            raise storage_error(error) from error
        return connection

    def readers(self) -> Engine:
        """Read-only connections: they can neither write nor checkpoint."""
        address = f"file:{quote(str(self._path))}?mode=ro"
        return _sqlite_engine(lambda: _sqlite(address), QueuePool, begin="BEGIN")

    def close(self) -> None:
        """See `Database`."""
        os.close(self._lock)


class Postgres:
    """PostgreSQL through psycopg 3. The owner holds an advisory lock of the schema on its writing connection."""

    only_connection = False

    def __init__(self, url: str) -> None:
        try:
            import psycopg
        except ImportError as error:
            raise StorageError(
                "PostgreSQL was asked for, but its driver isn't installed", "pip install 'platewright[postgres]'"
            ) from error
        self.faults, self.refusals = _faults(psycopg)
        self._url = url

    def connect(self) -> Connection:
        """See `Database`."""
        try:
            connection = create_engine(self._url, poolclass=NullPool).connect()
            owned = connection.execute(
                text("SELECT pg_try_advisory_lock(hashtext('platewright'), hashtext(current_schema()))")
            ).scalar()
            connection.commit()
            if not owned:
                connection.close()
                raise _second_owner("this PostgreSQL schema")
            _upgrade(connection)
        except self.faults as error:
            raise storage_error(error) from error
        return connection

    def readers(self) -> Engine:
        """Read-only snapshots; a connection that a restart of the server cut is found out before it is used."""
        return create_engine(
            self._url,
            pool_size=READERS,
            max_overflow=READERS,
            pool_pre_ping=True,
            isolation_level="REPEATABLE READ",
            execution_options={"postgresql_readonly": True},
        )

    def close(self) -> None:
        """The lock went with the connection."""


def _faults(driver: Any) -> tuple[tuple[type[Exception], ...], tuple[type[Exception], ...]]:
    """What a driver raises, by itself and through SQLAlchemy, and what of it an operation is to blame for."""
    refusals = (driver.IntegrityError, driver.DataError, driver.ProgrammingError)
    wrapped = (exc.IntegrityError, exc.DataError, exc.ProgrammingError)
    return (exc.DBAPIError, exc.TimeoutError, driver.Error), (*wrapped, *refusals)


def storage_error(error: Exception) -> StorageError:
    """What a database's fault means to a person."""
    if isinstance(error, StorageError):
        return error
    cause = error.orig if isinstance(error, exc.DBAPIError) and error.orig is not None else error
    said = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
    code = getattr(cause, "sqlite_errorcode", None)
    state = getattr(cause, "sqlstate", None)
    if (code is not None and code & 0xFF == sqlite3.SQLITE_FULL) or state == "53100":
        return DatabaseFullError(f"the dispatcher's database is full: {said}", _FULL)
    if code is not None and code & 0xFF == sqlite3.SQLITE_READONLY:
        return StorageError(
            f"the dispatcher's database can't be written: {said}", "check the file's and folder's owner and rights"
        )
    return StorageError(f"the dispatcher's database can't be used: {said}", "it is tried again with every request")


def _sqlite(address: str, *, pragmas: Sequence[str] = ()) -> sqlite3.Connection:
    # isolation_level None: the driver must not open transactions of its own beside those that are asked for.
    connection = sqlite3.connect(
        address, uri=address.startswith("file:"), isolation_level=None, check_same_thread=False, timeout=10.0
    )
    # Before any transaction: inside of one, SQLite would refuse or ignore them.
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _sqlite_engine(creator: Any, pool: type[NullPool] | type[QueuePool], *, begin: str = "BEGIN IMMEDIATE") -> Engine:
    sizes = {"pool_size": READERS, "max_overflow": READERS} if pool is QueuePool else {}
    engine = create_engine("sqlite://", creator=creator, poolclass=pool, **sizes)

    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "begin", start)
    return engine


def _own(path: Path) -> int:
    """Lock a file of our own beside the database: closing any handle on the database file itself would drop SQLite's locks."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(
            f"{path} can't be opened: {error.strerror}", "check the folder's owner and rights"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise _second_owner(str(path.with_suffix(""))) from error
    return handle


def _second_owner(what: str) -> StorageError:
    return StorageError(
        f"another dispatcher already uses {what}",
        "stop it, or give this one a data folder (PLATEWRIGHT_DATA) or database of its own",
    )


def _upgrade(connection: Connection) -> None:
    from farm.migrations import upgrade

    try:
        upgrade(connection)
    except PipelineError:
        connection.close()
        raise
