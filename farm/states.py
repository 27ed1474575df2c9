"""The states of jobs, chunks, attempts and versions, and the one table of allowed moves for each.

Nothing changes a state but `farm/moves.py`, and it asks here first. This module imports nothing heavy: hosts of tests,
the CLI and the pages read the names from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from pipeline.errors import StateError


class ChunkState(StrEnum):
    """What may happen to one chunk."""

    DEPEND = "depend"
    """Not offered to anyone: a step before it isn't done, or its job is paused or was given up."""
    WAITING = "waiting"
    """Offered to every worker that fits, once `not_before` has passed."""
    RUNNING = "running"
    """Held by one worker under one attempt number, until its lease runs out. Only that attempt may report."""
    SUCCEEDED = "succeeded"
    """Its accepted folder is read by the steps after it. It runs again only when it, or a step before it, is retried."""
    FAILED = "failed"
    """Tried as often as allowed, or refused for good. A person may retry or skip it."""
    SKIPPED = "skipped"
    """A person decided to go on without it. Later steps start as if it were done, and get no folder of it."""
    CANCELLED = "cancelled"
    """Final. Whoever still works on it is told to stop, and its report is refused."""


class JobState(StrEnum):
    """What may happen to one job. It follows from its chunks, save where a person says otherwise."""

    WAITING = "waiting"
    """No worker has taken a chunk of it yet."""
    RUNNING = "running"
    """A worker has taken a chunk. Chunks may fail while others still run."""
    PAUSED = "paused"
    """A person stopped it: nothing of it is offered, running chunks are stopped without blame."""
    SUCCEEDED = "succeeded"
    """Final: its versions are published and never change."""
    FAILED = "failed"
    """Nothing of it can run any more, and something failed. A retry or a skip brings it back."""
    CANCELLED = "cancelled"
    """Final: its version number was given back."""


class AttemptState(StrEnum):
    """How one try of a chunk stands. Every state but RUNNING is final."""

    RUNNING = "running"
    """The worker holds the lease."""
    SUCCEEDED = "succeeded"
    """Its folder was accepted: the only attempt of its chunk whose files are read."""
    FAILED = "failed"
    """The worker said so, or made no progress for too long."""
    LOST = "lost"
    """The worker fell silent. Whatever it still writes or reports is refused."""
    STOPPED = "stopped"
    """Taken back without blame: paused, cancelled, redone, or its assignment never reached the worker."""


class VersionState(StrEnum):
    """What may happen to one version."""

    RESERVED = "reserved"
    """Its number and folder belong to one take of one job. Nothing is published yet."""
    PUBLISHED = "published"
    """Final: whole on disk, and never changed again."""
    RELEASED = "released"
    """Its job was cancelled before any worker began to publish: the number is free again."""
    WITHDRAWN = "withdrawn"
    """Its job was cancelled while a worker was publishing: a late rename may still land, so the number stays taken."""


class JobKind(StrEnum):
    """What a job is asked to bring about: what its spec is."""

    PLATE = "plate"
    """Versions of a plate: `pipeline.jobs.spec.JobSpec`."""
    REPLAY = "replay"
    """A version once more, to compare it: the same spec, nothing is published."""
    TRAINING = "training"
    """A studio's own model: `pipeline.jobs.training.TrainingSpec`."""
    SCORING = "scoring"
    """A judgement of a model that is there already."""


class ModelState(StrEnum):
    """A model card's state."""

    CANDIDATE = "candidate"
    """It may be tried by name; nobody vouches for it yet."""
    APPROVED = "approved"
    """It was promoted: it won on held-out shots, or a named person answered for it."""
    RETIRED = "retired"
    """No new work uses it. Its card stays, for the versions that it made."""


class FailureKind(StrEnum):
    """Why an attempt ended without success."""

    ERROR = "error"
    """The runner raised. Counts against the chunk, and against this worker for this chunk."""
    CRASH = "crash"
    """The session child, or the worker itself, died. Counts."""
    MEMORY = "memory"
    """Killed for the memory it took. Counts."""
    HUNG = "hung"
    """It sent heartbeats and got nowhere. Counts."""
    LOST = "lost"
    """Its lease ran out. Counts: a chunk that takes a machine down does so silently."""
    STORAGE = "storage"
    """A disk was full or a share gone: never the chunk's fault. Doesn't count; it is tried again later."""
    REFUSED = "refused"
    """The input can't be used, whoever tries. The job fails at once."""


COUNTED_KINDS = frozenset(
    {FailureKind.ERROR, FailureKind.CRASH, FailureKind.MEMORY, FailureKind.HUNG, FailureKind.LOST}
)

CHUNK_MOVES: Mapping[ChunkState, frozenset[ChunkState]] = {
    ChunkState.DEPEND: frozenset({ChunkState.WAITING, ChunkState.SKIPPED, ChunkState.CANCELLED}),
    ChunkState.WAITING: frozenset({ChunkState.RUNNING, ChunkState.DEPEND, ChunkState.SKIPPED, ChunkState.CANCELLED}),
    ChunkState.RUNNING: frozenset(
        {
            ChunkState.SUCCEEDED,
            ChunkState.FAILED,
            ChunkState.WAITING,
            ChunkState.DEPEND,
            ChunkState.SKIPPED,
            ChunkState.CANCELLED,
        }
    ),
    ChunkState.SUCCEEDED: frozenset({ChunkState.DEPEND}),
    ChunkState.FAILED: frozenset({ChunkState.DEPEND, ChunkState.SKIPPED, ChunkState.CANCELLED}),
    ChunkState.SKIPPED: frozenset({ChunkState.DEPEND, ChunkState.CANCELLED}),
    ChunkState.CANCELLED: frozenset(),
}
"""From each state, where a chunk may go. Only DEPEND and RUNNING lead to WAITING: what is redone passes the same gate
as what is new."""

JOB_MOVES: Mapping[JobState, frozenset[JobState]] = {
    JobState.WAITING: frozenset(
        {JobState.RUNNING, JobState.PAUSED, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}
    ),
    JobState.RUNNING: frozenset({JobState.PAUSED, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}),
    JobState.PAUSED: frozenset({JobState.WAITING, JobState.RUNNING, JobState.CANCELLED}),
    JobState.FAILED: frozenset({JobState.RUNNING, JobState.CANCELLED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.CANCELLED: frozenset(),
}

VERSION_MOVES: Mapping[VersionState, frozenset[VersionState]] = {
    VersionState.RESERVED: frozenset({VersionState.PUBLISHED, VersionState.RELEASED, VersionState.WITHDRAWN}),
    VersionState.PUBLISHED: frozenset(),
    VersionState.RELEASED: frozenset(),
    VersionState.WITHDRAWN: frozenset(),
}

MODEL_MOVES: Mapping[ModelState, frozenset[ModelState]] = {
    ModelState.CANDIDATE: frozenset({ModelState.APPROVED, ModelState.RETIRED}),
    ModelState.APPROVED: frozenset({ModelState.RETIRED}),
    ModelState.RETIRED: frozenset({ModelState.CANDIDATE}),
}
"""A retired model that is taken up again has to be promoted again."""

FINISHED_JOBS = frozenset({JobState.SUCCEEDED, JobState.CANCELLED})
"""Jobs that no one can bring back."""

State = TypeVar("State", bound=StrEnum)


def check_move(moves: Mapping[State, frozenset[State]], now: State, to: State, what: str) -> None:
    """Raises: StateError when `moves` doesn't allow `now` → `to`; `what` names the thing for the person who asked."""
    if to in moves[now]:
        return
    allowed = ", ".join(sorted(moves[now])) or "nothing: this state is final"
    raise StateError(f"{what} is {now} and can't become {to}", f"from {now} it may become {allowed}")
