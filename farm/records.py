"""What the dispatcher takes and answers: plain frozen values. No row of the database goes further than the dispatcher."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from farm.states import AttemptState, ChunkState, FailureKind, JobKind, JobState, VersionState


@dataclass(frozen=True, slots=True)
class Record:
    """A value that travels as JSON."""

    def as_json(self) -> dict[str, Any]:
        """Plain dicts, lists, texts and numbers, under the fields' names."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


def _plain(value: Any) -> Any:
    """A value without its classes. `dataclasses.asdict` would also copy every text and number, at five times the cost."""
    if isinstance(value, Record):
        return value.as_json()
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return value


# What a worker says and is told


@dataclass(frozen=True, slots=True)
class WorkerHello(Record):
    """Who asks for work. A name is one slot: it holds one chunk at a time."""

    name: str
    studio: str
    host: str = ""
    pools: tuple[str, ...] = ("default",)
    """In order of preference: a chunk of a later pool is offered only when the earlier ones have none."""
    memory_mb: int = 1_000_000
    """What one session may take here."""
    model: str = ""
    """The model that is loaded: its chunks are preferred among those of the highest priority."""
    tags: Mapping[str, str] = field(default_factory=dict)
    software: str = ""
    """The worker's version."""


@dataclass(frozen=True, slots=True)
class InputFolder(Record):
    """The accepted result of a chunk of an earlier step."""

    step: str
    index: int
    frames: str
    folder: str


@dataclass(frozen=True, slots=True)
class VersionRef(Record):
    """The version that a take will become: number and folder are fixed since its job was submitted."""

    name: str
    number: int
    product: str
    folder: str


@dataclass(frozen=True, slots=True)
class Assignment(Record):
    """One chunk for one worker. `attempt` is the fencing token: every report about the chunk carries it."""

    chunk_id: int
    attempt: int
    job_id: int
    take: int
    step: str
    index: int
    frames: str
    context: str
    spec_json: str
    folder: str
    """This attempt's own folder, where it alone writes. Files count once the dispatcher has accepted the attempt."""
    inputs: tuple[InputFolder, ...]
    version: VersionRef | None
    """None for a job that publishes nothing."""
    lease_s: float
    no_progress_s: float
    memory_mb: int
    model: str


class Stop(StrEnum):
    """Why a worker must stop and throw its attempt away."""

    CANCELLED = "cancelled"
    """A person cancelled or skipped it."""
    PAUSED = "paused"
    """A person paused the job: it will be offered again."""
    LOST = "lost"
    """The attempt isn't the newest any more: it was silent or stuck for too long, or the chunk is being redone."""


@dataclass(frozen=True, slots=True)
class Verdict(Record):
    """The answer to a heartbeat: go on while `stop` is None."""

    stop: Stop | None = None
    lease_s: float = 0.0
    """How long the lease holds from now."""


@dataclass(frozen=True, slots=True)
class Failure(Record):
    """What a worker says of an attempt that came to nothing."""

    kind: FailureKind
    message: str
    hint: str = ""


# What people look at


@dataclass(frozen=True, slots=True)
class StepView(Record):
    """One step of a take, counted."""

    take: int
    name: str
    after: tuple[str, ...]
    total: int
    done: int
    """Succeeded or skipped."""
    failed: int


@dataclass(frozen=True, slots=True)
class TakeView(Record):
    """One candidate result."""

    take: int
    name: str
    seed: int
    parameters: Mapping[str, Any]
    preset: str = ""


@dataclass(frozen=True, slots=True)
class VersionView(Record):
    """A version: reserved, published, or given back."""

    id: int
    studio: str
    show: str
    sequence: str
    shot: str
    product: str
    number: int
    job_id: int
    take: int
    name: str
    folder: str
    state: VersionState
    frames: str
    layers: tuple[Any, ...]
    colorspace: str
    report: Mapping[str, Any]
    created_at: float
    published_at: float | None


@dataclass(frozen=True, slots=True)
class JobView(Record):
    """A job at a glance."""

    id: int
    studio: str
    key: str | None
    name: str
    show: str
    sequence: str
    shot: str
    task: str
    user: str
    state: JobState
    priority: int
    pool: str
    model: str
    created_at: float
    started_at: float | None
    ended_at: float | None
    message: str
    hint: str
    progress: float
    """0 to 1: chunks that are done, and the running ones' own fractions."""
    running: int
    steps: tuple[StepView, ...]
    versions: tuple[VersionView, ...]
    kind: JobKind = JobKind.PLATE
    use: str = ""


@dataclass(frozen=True, slots=True)
class AttemptView(Record):
    """One try of a chunk. `folder` holds its log."""

    number: int
    worker: str
    state: AttemptState
    started_at: float
    ended_at: float | None
    kind: FailureKind | None
    reason: str
    hint: str
    folder: str


@dataclass(frozen=True, slots=True)
class ChunkView(Record):
    """One chunk with everything that was tried."""

    id: int
    take: int
    step: str
    index: int
    frames: str
    context: str
    state: ChunkState
    attempt: int
    failures: int
    worker: str | None
    fraction: float
    done_frames: str
    not_before: float
    accepted_folder: str
    result: Mapping[str, Any]
    attempts: tuple[AttemptView, ...]


@dataclass(frozen=True, slots=True)
class Cost(Record):
    """What attempts have cost until now: see `farm/usage.py`."""

    machine_s: float = 0.0
    gpu_s: float = 0.0
    money: float = 0.0
    lost_s: float = 0.0
    """Seconds of those that came to nothing."""
    currency: str = ""


@dataclass(frozen=True, slots=True)
class JobDetail(Record):
    """A job with its takes and all of its chunks, in the order in which they may run."""

    job: JobView
    takes: tuple[TakeView, ...]
    chunks: tuple[ChunkView, ...]
    cost: Cost = Cost()
    estimate: Mapping[str, Any] | None = None
    """What was said when it was handed in, as `farm.estimates.Estimate`; None when nobody could say."""


@dataclass(frozen=True, slots=True)
class ReplayView(Record):
    """One replay of a version. `result`: as its last step kept it; None before that."""

    job: int
    state: JobState
    user: str
    at: float
    result: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class WorkerView(Record):
    """A worker as the dispatcher last heard of it. `state` is busy, idle, or lost."""

    name: str
    studio: str
    host: str
    state: str
    pools: tuple[str, ...]
    memory_mb: int
    model: str
    tags: Mapping[str, str]
    software: str
    first_seen: float
    last_seen: float
    chunk_id: int | None
    job_id: int | None


@dataclass(frozen=True, slots=True)
class TokenView(Record):
    """A token without its secret."""

    id: int
    studio: str
    name: str
    scopes: tuple[str, ...]
    created_at: float
    revoked_at: float | None


@dataclass(frozen=True, slots=True)
class Counts(Record):
    """How much there is of everything in a studio."""

    jobs: Mapping[str, int]
    chunks: Mapping[str, int]
    workers: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list. None means any."""

    states: Collection[JobState] | None = None
    show: str | None = None
    shot: str | None = None
    task: str | None = None
    user: str | None = None
    kinds: Collection[JobKind] | None = None


@dataclass(frozen=True, slots=True)
class VersionFilter:
    """Which versions to list. None means any."""

    states: Collection[VersionState] | None = frozenset({VersionState.PUBLISHED})
    show: str | None = None
    sequence: str | None = None
    shot: str | None = None
    product: str | None = None
    name: str | None = None
    job_id: int | None = None


@dataclass(frozen=True, slots=True)
class WorkFacts:
    """What a task's definition says about its work, for the queue: the spec doesn't carry it."""

    product: str
    """Of the versions that are reserved; empty where nothing is published."""
    memory_mb: int
    model: str = ""
    models: tuple[str, ...] = ()
    """Which weights each take loads, as warm sessions name them; empty when all load `model`."""
    estimate: str = ""
    """What it was said to cost, as JSON; empty where nobody could say."""


@dataclass(frozen=True, slots=True)
class Submitted(Record):
    """A job, and whether this submission made it or an earlier one with the same key did."""

    job: JobView
    created: bool


@dataclass(frozen=True, slots=True)
class Completed(Record):
    """Whether a result was accepted, and the next chunk if one was asked for."""

    accepted: bool
    next: Assignment | None
