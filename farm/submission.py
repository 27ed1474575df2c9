"""How a planned job gets into the queue: once for each idempotency key, with its version numbers reserved."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import bindparam, insert, select

from farm.events import Draft, EventKind
from farm.moves import NEW_WORK
from farm.records import WorkFacts
from farm.reservations import reserve
from farm.states import ChunkState, JobState
from farm.tables import CHUNK, JOB, STEP, TAKE
from farm.turn import Turn
from pipeline.errors import StateError
from pipeline.jobs.plan import Step
from pipeline.jobs.spec import JobSpec
from pipeline.jobs.training import AnySpec
from pipeline.naming import FolderTemplate

ROWS_AT_ONCE = 1_000

_OF_KEY = select(JOB.c.id, JOB.c.asked).where(JOB.c.studio == bindparam("of_studio"), JOB.c.key == bindparam("of_key"))
_NEW_JOB = insert(JOB).returning(JOB.c.id)
_NEW_TAKES, _NEW_STEPS, _NEW_CHUNKS = insert(TAKE), insert(STEP), insert(CHUNK)


def digest(asked: str) -> str:
    """What a repeated submission is compared by."""
    return hashlib.sha256(asked.encode()).hexdigest()


def what_is_asked(spec: AnySpec) -> str:
    """The text of a spec without what may differ each time: drawn seeds, and when the rules were asked."""
    plain = spec.model_dump(mode="json", exclude={"policy"})
    for take in plain.get("takes", ()):
        del take["seed"]
    return json.dumps(plain, sort_keys=True)


def job_of_key(turn: Turn, studio: str, key: str, asked: str) -> int | None:
    """The job that this key already stands for. Raises: StateError when it stands for another request."""
    row = turn.tx.first(_OF_KEY, {"of_studio": studio, "of_key": key})
    if row is None:
        return None
    if row.asked != digest(asked):
        raise StateError(
            f"the key {key!r} already stands for job {row.id}, which asked for something else",
            "use a new key for a new request",
        )
    return int(row.id)


def add_job(
    turn: Turn,
    spec: AnySpec,
    steps: Sequence[Step],
    facts: WorkFacts,
    *,
    key: str | None,
    asked: str,
    taken_on_disk: Collection[int],
) -> tuple[int, bool]:
    """Put a job into the queue. Returns its number, and whether it is new.

    Raises: StateError (the key stands for another request), TemplateError (no version number is left).
    """
    if key is not None and (known := job_of_key(turn, spec.studio, key, asked)) is not None:
        return known, False
    tx = turn.tx
    row = tx.first(_NEW_JOB, _job_row(spec, facts, key=key, asked=asked, now=turn.now))
    assert row is not None  # INSERT … RETURNING
    job = int(row.id)
    if isinstance(spec, JobSpec) and facts.product:
        reserve(
            tx,
            spec.address,
            facts.product,
            job=job,
            takes=[take.index for take in spec.takes],
            root=Path(spec.publish_root),
            template=FolderTemplate(turn.settings.version_template),
            taken_on_disk=taken_on_disk,
            now=turn.now,
        )
    tx.execute(_NEW_TAKES, _take_rows(job, spec))
    tx.execute(_NEW_STEPS, [_step_row(job, place, step) for place, step in enumerate(steps)])
    rows = _chunk_rows(job, spec, steps, facts)
    while some := list(islice(rows, ROWS_AT_ONCE)):
        tx.execute(_NEW_CHUNKS, some)
    tx.tell(Draft(EventKind.JOB, spec.studio, job, {"state": JobState.WAITING, "message": ""}))
    tx.tell(NEW_WORK)
    return job, True


def _take_rows(job: int, spec: AnySpec) -> list[Mapping[str, Any]]:
    if not isinstance(spec, JobSpec):
        one = {"take": 0, "name": spec.name, "seed": spec.seed, "parameters": json.dumps(spec.parameters)}
        return [{"job": job, "preset": "", **one}]
    return [
        {
            "job": job,
            "take": take.index,
            "name": take.name,
            "seed": take.seed,
            "parameters": json.dumps(take.parameters),
            "preset": spec.preset,
        }
        for take in spec.takes
    ]


def _job_row(spec: AnySpec, facts: WorkFacts, *, key: str | None, asked: str, now: float) -> Mapping[str, Any]:
    if isinstance(spec, JobSpec):
        where = "/".join(part for part in (spec.show, spec.sequence, spec.shot) if part)
        what = f"{where} {spec.task}" if spec.replays is None else f"{spec.replays.name} again"
        of_shot = {"sequence": spec.sequence, "shot": spec.shot, "use": spec.use}
        model = facts.model or spec.model
    else:
        what = f"{spec.task} model {spec.name}" + (" judged" if spec.candidate else "")
        of_shot = {"sequence": "", "shot": "", "use": ""}
        model = facts.model
    return {
        "studio": spec.studio,
        "key": key,
        "asked": digest(asked),
        "name": what,
        "show": spec.show,
        **of_shot,
        "kind": spec.kind,
        "task": spec.task,
        "user": spec.user,
        "state": JobState.WAITING,
        "priority": spec.priority,
        "pool": spec.pool,
        "model": facts.models[0] if facts.models else model,
        "spec": spec.model_dump_json(),
        "publish_root": spec.publish_root,
        "estimate": facts.estimate,
        "created_at": now,
        "message": "",
        "hint": "",
    }


def _step_row(job: int, place: int, step: Step) -> Mapping[str, Any]:
    total = len(step.chunks)
    return {
        "job": job,
        "take": step.take,
        "name": step.name,
        "place": place,
        "after": ",".join(step.after),
        "total": total,
        "chunks_left": total,
        "live": 0 if step.after else total,
        "failed": 0,
    }


def _chunk_rows(job: int, spec: AnySpec, steps: Sequence[Step], facts: WorkFacts) -> Iterator[Mapping[str, Any]]:
    plain = facts.model or (spec.model if isinstance(spec, JobSpec) else "")
    for step in steps:
        for chunk in step.chunks:
            yield {
                "studio": spec.studio,
                "job": job,
                "take": step.take,
                "step": step.name,
                "idx": chunk.index,
                "frames": str(chunk.frames),
                "context": str(chunk.context),
                "pool": spec.pool,
                "priority": spec.priority,
                "model": facts.models[step.take] if facts.models else plain,
                "memory_mb": facts.memory_mb,
                "state": ChunkState.DEPEND if step.after else ChunkState.WAITING,
                "attempt": 0,
                "failures": 0,
                "lease_until": 0.0,
                "progress_at": 0.0,
                "not_before": 0.0,
                "fraction": 0.0,
                "done_frames": "",
                "result": "{}",
            }
