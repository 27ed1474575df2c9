"""What a worker is told about the chunk that it was given. Put together outside of the writer, after the claim is committed."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from farm import queries
from farm.folders import attempt_folder
from farm.moves import Moved
from farm.records import Assignment, InputFolder, VersionRef
from farm.settings import FarmSettings
from farm.store import Store, Transaction

JOBS_REMEMBERED = 64


@dataclass(frozen=True, slots=True)
class _JobFacts:
    """What never changes about a submitted job, so that a claim needn't read it again."""

    spec_json: str
    publish_root: str
    before: Mapping[tuple[int, str], tuple[str, ...]]
    versions: Mapping[int, VersionRef]


class Assignments:
    """Completes claims. Of an infer chunk after the first, only the accepted fit is looked up."""

    def __init__(self, store: Store, settings: FarmSettings) -> None:
        self._store = store
        self._settings = settings
        self._facts: OrderedDict[int, _JobFacts] = OrderedDict()
        self._lock = threading.Lock()

    async def of(self, chunk: Moved) -> Assignment:
        """The whole assignment of a chunk that was just claimed. Raises: StorageError."""
        facts = self._known(chunk.job)
        if facts is None:
            facts = await asyncio.to_thread(self._store.read, partial(_read_facts, chunk=chunk))
            self._remember(chunk.job, facts)
        before = facts.before[chunk.take, chunk.step]
        inputs: tuple[InputFolder, ...] = ()
        if before:
            where = partial(queries.accepted, studio=chunk.studio, job=chunk.job, take=chunk.take)
            inputs = await asyncio.to_thread(self._store.read, partial(where, steps=before, root=facts.publish_root))
        folder = attempt_folder(
            facts.publish_root,
            studio=chunk.studio,
            job=chunk.job,
            take=chunk.take,
            step=chunk.step,
            index=chunk.index,
            attempt=chunk.attempt,
        )
        return Assignment(
            chunk_id=chunk.id,
            attempt=chunk.attempt,
            job_id=chunk.job,
            take=chunk.take,
            step=chunk.step,
            index=chunk.index,
            frames=chunk.frames,
            context=chunk.context,
            spec_json=facts.spec_json,
            folder=str(folder),
            inputs=inputs,
            version=facts.versions.get(chunk.take),
            lease_s=self._settings.lease_s,
            no_progress_s=self._settings.no_progress_s,
            memory_mb=chunk.memory_mb,
            model=chunk.model,
        )

    def _known(self, job: int) -> _JobFacts | None:
        with self._lock:
            if job in self._facts:
                self._facts.move_to_end(job)
            return self._facts.get(job)

    def _remember(self, job: int, facts: _JobFacts) -> None:
        with self._lock:
            self._facts[job] = facts
            while len(self._facts) > JOBS_REMEMBERED:
                self._facts.popitem(last=False)


def _read_facts(tx: Transaction, *, chunk: Moved) -> _JobFacts:
    spec = queries.spec_text(tx, chunk.studio, chunk.job)
    root = queries.publish_root(tx, chunk.studio, chunk.job)
    return _JobFacts(spec, root, queries.steps_before(tx, chunk.job), queries.versions_of_takes(tx, chunk.job))
