"""The rows that the dispatcher keeps, the same on SQLite and PostgreSQL.

A `table=True` class does not validate what it is given: these classes only declare the schema (for `farm/migrations`) and
are never built from input. Statements use the `Table` objects at the end. Times are seconds since 1970, by the
dispatcher's clock; frames are text such as `1001-1016`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
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


def _added(kind: TypeEngine[Any], before: str) -> Column[Any]:
    """A column that came later: rows from before it hold `before`."""
    return Column(kind, nullable=False, server_default=before)


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
    """One request. `key` makes a repeated submission the same job; `asked` is the digest of what was asked under it.

    `kind` says what `spec` is; see `farm.states.JobKind`. `estimate` is what the submission was told it would cost, as JSON.
    """

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
    kind: str = Field(sa_column=_added(Text(), "plate"))
    task: str = Field(sa_column=_text())
    use: str = Field(sa_column=_added(Text(), ""))
    user: str = Field(sa_column=_text())
    state: str = Field(sa_column=_text())
    priority: int
    pool: str = Field(sa_column=_text())
    model: str = Field(sa_column=_text())
    spec: str = Field(sa_column=_text())
    publish_root: str = Field(sa_column=_text())
    estimate: str = Field(sa_column=_added(Text(), ""))
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
    preset: str = Field(sa_column=_added(Text(), ""))


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
    """One try of a chunk. `counted` 1 puts its worker on the chunk's block list.

    `gpus` and `rate` are its worker's when it began: what it cost is `rate` times its seconds, whatever prices become later.
    """

    __tablename__ = "attempt"
    __table_args__ = (Index("ix_attempt_started", "started_at"),)
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
    gpus: int = Field(sa_column=_added(Integer(), "0"))
    rate: float = Field(sa_column=_added(Float(), "0"))


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


class ModelRow(SQLModel, table=True):
    """A model card. Weights are named by their hash; `path` is where they lay when the card was made."""

    __tablename__ = "model"
    __table_args__ = (
        UniqueConstraint("studio", "task", "name", "number", name="uq_model_name"),
        Index("ix_model_sha256", "sha256"),
        {"sqlite_autoincrement": True},
    )
    id: int = Field(sa_column=_key())
    studio: str = Field(sa_column=_text())
    task: str = Field(sa_column=_text())
    name: str = Field(sa_column=_text())
    number: int
    state: str = Field(sa_column=_text())
    family: str = Field(sa_column=_text())
    sha256: str = Field(sa_column=_text())
    path: str = Field(sa_column=_text())
    base: str = Field(sa_column=_text())
    base_model: int | None = Field(sa_column=Column(Whole, nullable=True))
    licence: str = Field(sa_column=_text())
    job: int | None = Field(sa_column=Column(Whole, nullable=True))
    lineage: str = Field(sa_column=_text())
    facts: str = Field(sa_column=_text())
    note: str = Field(sa_column=_text())
    created_by: str = Field(sa_column=_text())
    created_at: float
    retired_at: float | None


class PromotionRow(SQLModel, table=True):
    """One change of an alias such as `roto@production`. Only ever added: the newest counts. No `model`: the task's own."""

    __tablename__ = "promotion"
    __table_args__ = (Index("ix_promotion_alias", "studio", "task", "alias", "id"),)
    id: int = Field(sa_column=_key())
    studio: str = Field(sa_column=_text())
    task: str = Field(sa_column=_text())
    alias: str = Field(sa_column=_text())
    model: int | None = Field(sa_column=Column(Whole, nullable=True))
    by: str = Field(sa_column=_text())
    reason: str = Field(sa_column=_text())
    evidence: str = Field(sa_column=_text())
    at: float


class ScoreRow(SQLModel, table=True):
    """How one model did on a set of held-out shots. No `model`: the task's own weights. `protocol` is a digest of the set and
    of how it was measured: only scores of the same protocol may be compared."""

    __tablename__ = "score"
    __table_args__ = (Index("ix_score_model", "studio", "task", "model", "id"),)
    id: int = Field(sa_column=_key())
    studio: str = Field(sa_column=_text())
    task: str = Field(sa_column=_text())
    model: int | None = Field(sa_column=Column(Whole, nullable=True))
    job: int = Field(sa_column=_of("job.id"))
    protocol: str = Field(sa_column=_text())
    measure: str = Field(sa_column=_text())
    value: float
    shots: str = Field(sa_column=_text())
    at: float


class HeldOutRow(SQLModel, table=True):
    """A shot that a task's models are judged by, and never learn from."""

    __tablename__ = "held_out"
    studio: str = Field(sa_column=Column(Text, primary_key=True))
    task: str = Field(sa_column=Column(Text, primary_key=True))
    show: str = Field(sa_column=Column(Text, primary_key=True))
    sequence: str = Field(sa_column=Column(Text, primary_key=True))
    shot: str = Field(sa_column=Column(Text, primary_key=True))
    by: str = Field(sa_column=_text())
    at: float


class ClearanceRow(SQLModel, table=True):
    """A recorded yes: of a whole show, of a sequence, or of a shot. Withdrawn, never removed."""

    __tablename__ = "clearance"
    __table_args__ = (Index("ix_clearance_show", "studio", "show", "kind"),)
    id: int = Field(sa_column=_key())
    studio: str = Field(sa_column=_text())
    kind: str = Field(sa_column=_text())
    show: str = Field(sa_column=_text())
    sequence: str = Field(sa_column=_text())
    shot: str = Field(sa_column=_text())
    by: str = Field(sa_column=_text())
    recorded_by: str = Field(sa_column=_text())
    reference: str = Field(sa_column=_text())
    note: str = Field(sa_column=_text())
    given_at: float
    withdrawn_at: float | None
    withdrawn_by: str = Field(sa_column=_text())


class ReviewRow(SQLModel, table=True):
    """What one person said of a version: a pick, a rating, a note, an approval. Only ever added: of picks, ratings and
    approvals a person's newest counts."""

    __tablename__ = "review"
    __table_args__ = (Index("ix_review_version", "version", "id"),)
    id: int = Field(sa_column=_key())
    studio: str = Field(sa_column=_text())
    version: int = Field(sa_column=_of("version.id"))
    kind: str = Field(sa_column=_text())
    value: int
    text: str = Field(sa_column=_text())
    user: str = Field(sa_column=_text())
    at: float


class PresetRow(SQLModel, table=True):
    """A named set of parameters of a show's task."""

    __tablename__ = "preset"
    __table_args__ = (
        _partial("uq_preset_name", "studio", "show", "task", "name", where="retired_at IS NULL", unique=True),
    )
    id: int = Field(sa_column=_key())
    studio: str = Field(sa_column=_text())
    show: str = Field(sa_column=_text())
    task: str = Field(sa_column=_text())
    name: str = Field(sa_column=_text())
    parameters: str = Field(sa_column=_text())
    model: str = Field(sa_column=_text())
    created_by: str = Field(sa_column=_text())
    created_at: float
    retired_at: float | None


METADATA: MetaData = SQLModel.metadata
JOB: Table = METADATA.tables["job"]
TAKE: Table = METADATA.tables["take"]
STEP: Table = METADATA.tables["step"]
CHUNK: Table = METADATA.tables["chunk"]
ATTEMPT: Table = METADATA.tables["attempt"]
WORKER: Table = METADATA.tables["worker"]
VERSION: Table = METADATA.tables["version"]
TOKEN: Table = METADATA.tables["token"]
MODEL: Table = METADATA.tables["model"]
PROMOTION: Table = METADATA.tables["promotion"]
SCORE: Table = METADATA.tables["score"]
HELD_OUT: Table = METADATA.tables["held_out"]
CLEARANCE: Table = METADATA.tables["clearance"]
REVIEW: Table = METADATA.tables["review"]
PRESET: Table = METADATA.tables["preset"]
