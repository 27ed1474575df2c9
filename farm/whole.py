"""A whole job in one process: `plates run`. The dispatcher, its store in memory, a session; no server, no second process
but the inspector's child. The code is the farm's own; only the wire is missing."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.dispatcher import Dispatcher
from farm.folders import job_folder
from farm.inspector import Inspector
from farm.outcome import outcome
from farm.records import Assignment as Claimed
from farm.records import Failure, WorkerHello
from farm.session import Session, failure_kind, write_preview
from farm.settings import FarmSettings
from farm.states import FailureKind
from farm.store import SqlStore
from farm.submitting import prepare
from farm.wire import Assignment
from pipeline import __version__
from pipeline.errors import PipelineError
from pipeline.jobs.spec import JobRequest
from pipeline.publish.signing import signing_identity

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WORKER = "here"


def run_whole(request: JobRequest, *, say: Callable[[str], None]) -> dict[str, Any]:
    """Do a request from its check to its published version, and return its outcome.

    Raises: SubmissionRefused, PublishError (what should sign the version can't).
    """
    signing_identity()
    with tempfile.TemporaryDirectory(prefix="platewright-") as data:
        settings = replace(FarmSettings.read(), data=Path(data), max_attempts=1)
        # A job's number names the folder of its work, and the root may be a dispatcher's, or another run's.
        store = SqlStore.in_memory(first_job=1 + secrets.randbelow(2**31))
        inspector = Inspector()
        try:
            return asyncio.run(_run(request, Dispatcher(store, settings), settings, inspector, say))
        finally:
            inspector.close()
            store.close()


async def _run(
    request: JobRequest,
    dispatcher: Dispatcher,
    settings: FarmSettings,
    inspector: Inspector,
    say: Callable[[str], None],
) -> dict[str, Any]:
    prepared = prepare(
        request,
        studio=settings.studio,
        user=request.user or getpass.getuser(),
        settings=settings,
        dispatcher=dispatcher,
        inspector=inspector,
    )
    for warning in prepared.spec.warnings:
        say(f"note: {warning}")
    submitted = await dispatcher.submit(
        prepared.spec,
        prepared.steps,
        work=prepared.work,
        key=secrets.token_hex(8),
        asked=request.model_dump_json(),
        taken_on_disk=prepared.taken_on_disk,
    )
    session = Session()
    root = prepared.spec.publish_root
    hello = WorkerHello(
        name=WORKER, studio=settings.studio, host=socket.gethostname(), pools=(request.pool,), software=__version__
    )
    try:
        while (claimed := await dispatcher.claim(hello, wait_s=0)) is not None:
            await _do(claimed, dispatcher, session, settings, say)
    finally:
        # Nobody can take it up again: its queue ends with this process.
        _remove_work(job_folder(root, studio=settings.studio, job=submitted.job.id))
    return outcome(dispatcher.job(settings.studio, submitted.job.id))


def _remove_work(folder: Path) -> None:
    """Remove the job's attempts, and the folders above them as far as nobody else uses them."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        for parent in (folder.parent, folder.parent.parent):
            parent.rmdir()


async def _do(
    claimed: Claimed, dispatcher: Dispatcher, session: Session, settings: FarmSettings, say: Callable[[str], None]
) -> None:
    folder = Path(claimed.folder).parents[2] / f"preview-{claimed.take}"
    proxy = settings.proxy_settings() if claimed.step == "publish" else {}
    assignment = Assignment.model_validate({**claimed.as_json(), "preview_folder": str(folder), "proxy": proxy})
    what = f"{claimed.step} {claimed.frames}"
    try:
        result = session.do(assignment, _Reporter(folder, what, say))
    except PipelineError as error:
        kind = failure_kind(error)
        if kind is FailureKind.STORAGE:
            # A farm waits for the disk to have room again; a person at a prompt wants to be told.
            kind = FailureKind.REFUSED
        failure = Failure(kind, error.message, error.hint)
        await dispatcher.fail(settings.studio, WORKER, claimed.chunk_id, claimed.attempt, failure)
    else:
        await dispatcher.complete(settings.studio, WORKER, claimed.chunk_id, claimed.attempt, result, claim=None)


class _Reporter:
    """News of the session, straight to the person."""

    def __init__(self, folder: Path, what: str, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._what = what
        self._say = say
        self._shown = ""

    def progress(self, fraction: float, note: str) -> None:
        line = f"{self._what}  {fraction * 100:3.0f} %  {note}"
        if line != self._shown:
            self._shown = line
            self._say(line)

    def preview(self, frame: int, picture: NDArray[np.uint8]) -> None:
        write_preview(self._folder, frame, picture)

    def frame_done(self, frame: int) -> None:
        del frame
