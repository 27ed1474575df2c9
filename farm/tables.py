"""The rows that the dispatcher keeps, the same on SQLite and PostgreSQL.

A `table=True` class does not validate what it is given: these classes only declare the schema (for `farm/migrations`) and
are never built from input. Statements use the `Table` objects at the end. Times are seconds since 1970, by the
dispatcher's clock; frames are text such as `1001-1016`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.types import TypeEngine
from sqlmodel import Field, SQLModel

Whole: TypeEngine[int] = BigInteger().with_variant(Integer(), "sqlite")
"""64 bits on both: SQLite numbers rows by itself only for a column that is declared INTEGER."""


def _key() -> Column[int]:
    return Column(Whole, primary_key=True, autoincrement=True)


def _of(target: str, *, primary: bool = False) -> Column[int]:
    return Column(Whole, ForeignKey(target), primary_key=primary, nullable=False, autoincrement=False)


def _text(default: str | None = "") -> Column[str]:
    return Column(Text, nullable=default is None)


def _partial(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    """An index over only those rows that are looked for: its depth doesn't grow with finished work."""
    return Index(
        name,
        *(text(column) if " " in column else column for column in columns),
        sqlite_where=text(where),
        postgresql_where=text(where),
        unique=unique,
    )


class JobRow(SQLModel, table=True):
    """One request. `key` makes a repeated submission the same job; `asked` is the digest of what was asked under it."""

    __tablename__ = "job"
    # A job's number names folders on disk, so a number is never given twice, not even after a crash.
    __table_args__ = (
        UniqueConstraint("studio", "key", name="uq_job_key"),
        Index("ix_job_studio", "studio", "id"),
        {"sqlite_autoincrement": True},
    )
    id: int = Field(sa_column=_key())
    studio: str = Field(sa_column=_text())
    key: str | None = Field(sa_column=_text(None))
    asked: str = Field(sa_column=_text())
    name: str = Field(sa_column=_text())
    show: str = Field(sa_column=_text())
    sequence: str = Field(sa_column=_text())
    shot: str = Field(sa_column=_text())
    task: str = Field(sa_column=_text())
    user: str = Field(sa_column=_text())
    state: str = Field(sa_column=_text())
    priority: int
    pool: str = Field(sa_column=_text())
    model: str = Field(sa_column=_text())
    spec: str = Field(sa_column=_text())
    publish_root: str = Field(sa_column=_text())
    created_at: float
    started_at: float | None
    ended_at: float | None
    message: str = Field(sa_column=_text())
    hint: str = Field(sa_column=_text())


class TakeRow(SQLModel, table=True):
    """One candidate result of a job."""

    __tablename__ = "take"
    job: int = Field(sa_column=_of("job.id", primary=True))
    take: int = Field(primary_key=True)
    name: str = Field(sa_column=_text())
    seed: int = Field(sa_column=Column(Whole, nullable=False))
    parameters: str = Field(sa_column=_text())


class StepRow(SQLModel, table=True):
    """One step of a take, with its chunks counted: `chunks_left` are neither succeeded nor skipped, `live` wait or run."""

    __tablename__ = "step"
    job: int = Field(sa_column=_of("job.id", primary=True))
    take: int = Field(primary_key=True)
    name: str = Field(sa_column=Column(Text, primary_key=True))
    place: int
    after: str = Field(sa_column=_text())
    total: int
    chunks_left: int
    live: int
    failed: int


class ChunkRow(SQLModel, table=True):
    """Frames that one worker writes. `attempt` is the fencing token: it only grows, and only its newest holder may report."""

    __tablename__ = "chunk"
    __table_args__ = (
        UniqueConstraint("job", "take", "step", "idx", name="uq_chunk_place"),
        _partial("ix_chunk_claim", "studio", "pool", "priority DESC", "id", where="state = 'waiting'"),
        _partial("ix_chunk_warm", "studio", "pool", "model", "priority DESC", "id", where="state = 'waiting'"),
        _partial("ix_chunk_later", "not_before", where="state = 'waiting' AND not_before > 0"),
        _partial("ix_chunk_lease", "lease_until", where="state = 'running'"),
        _partial("ix_chunk_holder", "studio", "worker", where="state = 'running'"),
    )
    id: int = Field(sa_column=_key())
    studio: str = Field(sa_column=_text())
    job: int = Field(sa_column=_of("job.id"))
    take: int
    step: str = Field(sa_column=_text())
    idx: int
    frames: str = Field(sa_column=_text())
    context: str = Field(sa_column=_text())
    pool: str = Field(sa_column=_text())
    priority: int
    model: str = Field(sa_column=_text())
    memory_mb: int
    state: str = Field(sa_column=_text())
    attempt: int
    failures: int
    worker: str | None = Field(sa_column=_text(None))
    lease_until: float
    progress_at: float
    not_before: float
    fraction: float
    done_frames: str = Field(sa_column=_text())
    result: str = Field(sa_column=_text())


class AttemptRow(SQLModel, table=True):
    """One try of a chunk. `counted` 1 puts its worker on the chunk's block list."""

    __tablename__ = "attempt"
    chunk: int = Field(sa_column=_of("chunk.id", primary=True))
    number: int = Field(primary_key=True)
    worker: str = Field(sa_column=_text())
    state: str = Field(sa_column=_text())
    started_at: float
    ended_at: float | None
    kind: str = Field(sa_column=_text())
    reason: str = Field(sa_column=_text())
    hint: str = Field(sa_column=_text())
    counted: int


class WorkerRow(SQLModel, table=True):
    """One place where a chunk can run. `pools` is `,default,gpu,` so that one pool can be looked for in it."""

    __tablename__ = "worker"
    studio: str = Field(sa_column=Column(Text, primary_key=True))
    name: str = Field(sa_column=Column(Text, primary_key=True))
    host: str = Field(sa_column=_text())
    pools: str = Field(sa_column=_text())
    tags: str = Field(sa_column=_text())
    memory_mb: int
    model: str = Field(sa_column=_text())
    software: str = Field(sa_column=_text())
    first_seen: float
    last_seen: float


class VersionRow(SQLModel, table=True):
    """A version's number, reserved when its job is submitted. Only a released number may be given again."""

    __tablename__ = "version"
    __table_args__ = (
        _partial(
            "uq_version_number",
            "studio",
            "show",
            "sequence",
            "shot",
            "product",
            "number",
            where="state <> 'released'",
            unique=True,
        ),
        Index("ix_version_job", "job"),
        Index("ix_version_studio", "studio", "id"),
    )
    id: int = Field(sa_column=_key())
    studio: str = Field(sa_column=_text())
    show: str = Field(sa_column=_text())
    sequence: str = Field(sa_column=_text())
    shot: str = Field(sa_column=_text())
    product: str = Field(sa_column=_text())
    number: int
    job: int = Field(sa_column=_of("job.id"))
    take: int
    name: str = Field(sa_column=_text())
    folder: str = Field(sa_column=_text())
    state: str = Field(sa_column=_text())
    frames: str = Field(sa_column=_text())
    layers: str = Field(sa_column=_text())
    colorspace: str = Field(sa_column=_text())
    report: str = Field(sa_column=_text())
    created_at: float
    published_at: float | None


class TokenRow(SQLModel, table=True):
    """A bearer token, kept only as its SHA-256."""

    __tablename__ = "token"
    __table_args__ = (UniqueConstraint("hash", name="uq_token_hash"),)
    id: int = Field(sa_column=_key())
    studio: str = Field(sa_column=_text())
    name: str = Field(sa_column=_text())
    scopes: str = Field(sa_column=_text())
    hash: str = Field(sa_column=_text())
    created_at: float
    revoked_at: float | None


METADATA: MetaData = SQLModel.metadata
JOB: Table = METADATA.tables["job"]
TAKE: Table = METADATA.tables["take"]
STEP: Table = METADATA.tables["step"]
CHUNK: Table = METADATA.tables["chunk"]
ATTEMPT: Table = METADATA.tables["attempt"]
WORKER: Table = METADATA.tables["worker"]
VERSION: Table = METADATA.tables["version"]
TOKEN: Table = METADATA.tables["token"]
