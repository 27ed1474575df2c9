"""A session: the child process that holds a model and does many chunks with it.

`plates worker` starts it, feeds it assignments and reads its news; `plates run` calls `Session` in its own process. The only
place of the farm from which torch, OpenEXR and the rest of the heavy libraries are reached.
"""

from __future__ import annotations

import importlib
import logging
import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.child import ParentLink
from farm.folders import fits_folder
from farm.publishing import publish_take, version_of
from farm.replaying import compare_take
from farm.states import FailureKind
from farm.training import do_training_step
from farm.wire import Assignment
from pipeline.errors import PipelineError, RunnerError, StorageError
from pipeline.frames import FrameRange
from pipeline.jobs.chunks import Chunk
from pipeline.jobs.fits import KeptFits
from pipeline.jobs.spec import JobSpec, TakeSpec
from pipeline.jobs.training import TrainingSpec, read_spec
from pipeline.media.proxy import write_jpeg
from pipeline.models.files import check_sha256
from pipeline.paths import storage_error
from pipeline.plate_shot import Reporter
from pipeline.publish.earlier import EarlierFrame, earlier_frames
from pipeline.runner import run_chunk, run_fit
from pipeline.tasks.contract import Cancelled, ModelRef, TaskRunner
from pipeline.tasks.registry import new_runner, task
from pipeline.version import Version

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger("platewright.session")


class Session:
    """Does assignments one by one and keeps the last model warm."""

    def __init__(self) -> None:
        self._runner: TaskRunner | None = None
        self._identity = ""
        self._earlier: tuple[Version, Mapping[str, EarlierFrame]] | None = None

    @property
    def identity(self) -> str:
        """Which model is loaded, as `task:model`."""
        return self._identity

    def warm(self, task_name: str, model: ModelRef, identity: str = "") -> str:
        """Load a task's model, unless it is loaded. Returns the identity that workers report as warm. Raises: TaskError, ModelError."""
        identity = f"{task_name}:{identity or model.name}"
        if self._identity != identity:
            self._forget()
            started = time.monotonic()
            runner = new_runner(task(task_name))
            runner.load(model)
            self._runner, self._identity = runner, identity
            log.info("loaded %s in %.1f s", identity, time.monotonic() - started)
        return identity

    def _forget(self) -> None:
        """Give the loaded model's memory back."""
        if self._runner is not None:
            self._runner.unload()
        self._runner, self._identity = None, ""

    def _earlier_frames(self, version: Version) -> Mapping[str, EarlierFrame]:
        """Read once for all chunks of a take."""
        if self._earlier is None or self._earlier[0] != version:
            self._earlier = version, earlier_frames(version)
        return self._earlier[1]

    def _warm_for(self, spec: JobSpec, take: TakeSpec) -> None:
        """Raises: TaskError, ModelError (other weights lie there than were submitted)."""
        if self._identity != f"{spec.task}:{take.identity or spec.model}":
            for name, digest in take.weights.items():
                check_sha256(Path(take.inputs[name].path), digest)
        self.warm(spec.task, model_of(spec, take), take.identity)

    def do(self, assignment: Assignment, report: Reporter) -> dict[str, Any]:
        """Do one chunk and return its result. Raises: PipelineError, Cancelled."""
        spec = read_spec(assignment.spec_json)
        folder = Path(assignment.folder)
        try:
            # A folder left by the same attempt can only come from a run that this one replaces.
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        except OSError as error:
            raise storage_error(error, folder) from error
        try:
            if isinstance(spec, TrainingSpec):
                self._forget()
                return do_training_step(assignment, spec, report)
            return self._do_frames(assignment, spec, folder, report)
        except OSError as error:
            raise storage_error(error, error.filename or folder) from error

    def _do_frames(self, assignment: Assignment, spec: JobSpec, folder: Path, report: Reporter) -> dict[str, Any]:
        """A chunk of a plate's job."""
        definition = task(spec.task)
        take = spec.takes[assignment.take]
        chunk = Chunk(assignment.index, FrameRange.parse(assignment.frames), FrameRange.parse(assignment.context))
        if assignment.step == "publish":
            return publish_take(assignment, spec, report)
        if assignment.step == "compare":
            return compare_take(assignment, spec, report)
        self._warm_for(spec, take)
        assert self._runner is not None
        # A replay proves that the same comes out again, so it takes nothing over.
        again = spec.replays is not None
        earlier = {} if again else self._earlier_frames(version_of(assignment, spec))
        if assignment.step == "fit":
            return run_fit(
                spec,
                take,
                definition,
                runner=self._runner,
                frames=chunk,
                folder=folder,
                report=report,
                earlier=earlier,
                kept=None if again else KeptFits(fits_folder(spec.publish_root, studio=spec.studio)),
            )
        fit_folder = next((Path(i.folder) for i in assignment.inputs if i.step == "fit"), None)
        return run_chunk(
            spec,
            take,
            definition,
            runner=self._runner,
            chunk=chunk,
            folder=folder,
            fit_folder=fit_folder,
            report=report,
            earlier=earlier,
        )


def model_of(spec: JobSpec, take: TakeSpec) -> ModelRef:
    """The weights of a take, as its runner is told of them."""
    return ModelRef(
        name=take.model.name or spec.model,
        path=None if take.model.path is None else Path(take.model.path),
        sha256=take.model.sha256,
        family=take.model.family,
        options={name: take.inputs[name].path for name in take.weights},
    )


class LinkReporter:
    """News of a session for its worker, over the child's link."""

    def __init__(self, link: ParentLink, assignment: Assignment, cancelled: threading.Event) -> None:
        self._link = link
        self._folder = Path(assignment.preview_folder)
        self._cancelled = cancelled
        self._done: list[int] = []
        self._lock = threading.Lock()

    def progress(self, fraction: float, note: str) -> None:
        """See Reporter."""
        self._check()
        self._link.send({"event": "progress", "fraction": max(0.0, min(1.0, fraction)), "note": note[:500]})

    def preview(self, frame: int, picture: NDArray[np.uint8]) -> None:
        """See Reporter."""
        self._check()
        path = write_preview(self._folder, frame, picture)
        self._link.send({"event": "preview", "frame": frame, "path": str(path)})

    def frame_done(self, frame: int) -> None:
        """See Reporter. Called from the writing thread, so it never raises."""
        with self._lock:
            self._done.append(frame)
            done = str(FrameRange.of(self._done))
        self._link.send({"event": "frames", "done": done})

    def _check(self) -> None:
        if self._cancelled.is_set():
            raise Cancelled


def write_preview(folder: Path, frame: int, picture: NDArray[np.uint8]) -> Path:
    """Put a preview where the page looks for it, whole or not at all. Raises: StorageError."""
    path = folder / f"{frame}.jpg"
    part = folder / f".{frame}.{os.getpid()}.part.jpg"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_jpeg(part, picture)
        part.replace(path)
    except OSError as error:
        raise storage_error(error, path) from error
    return path


def failure_kind(error: BaseException) -> FailureKind:
    """What a failure means for the chunk: see docs/worker_protocol.md."""
    if isinstance(error, StorageError):
        return FailureKind.STORAGE
    if isinstance(error, MemoryError):
        return FailureKind.MEMORY
    if isinstance(error, PipelineError) and not isinstance(error, RunnerError):
        return FailureKind.REFUSED
    return FailureKind.ERROR


def main() -> None:
    """The child's main loop. Arguments: what to warm up first, as `task:model`."""
    link = ParentLink()
    cancelled = threading.Event()

    def on_message(message: dict[str, Any]) -> bool:
        if message.get("do") == "cancel":
            cancelled.set()
            return True
        return False

    link.on_message = on_message
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    link.start()
    session = Session()
    for wanted in sys.argv[1:]:
        name, _, model = wanted.partition(":")
        if name == "import":
            importlib.import_module(model)
            continue
        try:
            link.send(
                {"event": "warm", "identity": session.warm(name, ModelRef(name=model or task(name).default_model))}
            )
        except PipelineError as error:
            log.warning("not warmed up: %s (%s)", error.message, error.hint)
    link.send({"event": "ready"})
    while True:
        message = link.messages.get()
        cancelled.clear()
        assignment = Assignment.model_validate(message["assignment"])
        try:
            result = session.do(assignment, LinkReporter(link, assignment, cancelled))
            link.send({"event": "done", "result": result, "warm": session.identity})
        except Cancelled:
            link.send({"event": "cancelled"})
        except PipelineError as error:
            log.error("%s: %s\n%s", type(error).__name__, error.message, traceback.format_exc())
            link.send({"event": "failed", "kind": failure_kind(error), "message": error.message, "hint": error.hint})
        except Exception as error:
            log.error("%s", traceback.format_exc())
            message_text = f"{type(error).__name__}: {error}"
            link.send(
                {
                    "event": "failed",
                    "kind": failure_kind(error),
                    "message": message_text,
                    "hint": "the log has the traceback",
                }
            )


if __name__ == "__main__":
    main()
