"""The watch folder: a drop with a small job file becomes a job once it has fully arrived.

A drop is a folder in the inbox that holds `job.json`: a submission's fields, with paths relative to the drop.

    inbox/                    a drop here has fully arrived when
      sh010_roto/               - its job.json lists "files": {path: bytes} and all are there at that size, or
        job.json                - nothing in it has changed for `settle_s` and no temporary file is left
        cut.otio
        plate/sh010.1001.exr
      accepted/               where it is moved, by one rename, before it is submitted
      refused/                where a bad one is moved, with <drop>.reason.txt beside it

A rename is taken by one watcher only, and the submission's key is the drop's own, so nothing is taken twice even when the
watcher is killed between the two. File system events are only a hint to look sooner: a rescan finds what they lost.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.polling import PollingObserver

from integrations._shared.client import DispatcherError
from pipeline.errors import Fault, PipelineError, SubmissionRefused
from pipeline.parameters import path_parameters
from pipeline.tasks.registry import task

log = logging.getLogger("platewright.watch")

JOB_FILE = "job.json"
ACCEPTED, REFUSED = "accepted", "refused"
_SUBMITTED = ".platewright-submitted.json"
_TEMPORARY = (".part", ".tmp", ".partial", ".filepart", ".crdownload")
_MOST_BYTES = 1 << 20
_STOP_EVERY_S = 0.5
_PATH_FIELDS = ("plate", "cut", "out")

Submit = Callable[[dict[str, Any], str], dict[str, Any]]
"""(request, idempotency key) → the dispatcher's reply. Raises: DispatcherError, SubmissionRefused."""


@dataclass(slots=True)
class _Seen:
    """What a drop looked like when it last changed."""

    print: str = ""
    since: float = 0.0


@dataclass(slots=True)
class Inbox:
    """One inbox. `scan` looks once; `run` keeps looking."""

    folder: Path
    submit: Submit
    settle_s: float = 5.0
    clock: Callable[[], float] = time.monotonic
    _seen: dict[str, _Seen] = field(default_factory=dict)

    def run(self, stop: threading.Event, *, rescan_s: float, polling: bool) -> None:
        """Look at every event, and at least every `rescan_s`. `polling` is for NFS and SMB, which send no events."""
        wake = threading.Event()
        observer = PollingObserver(timeout=rescan_s) if polling else Observer()
        observer.schedule(_Hint(wake), str(self.folder), recursive=True)
        try:
            observer.start()
        except OSError as error:  # no more inotify watches to be had
            log.warning("no events from %s (%s): it is looked at every %g s", self.folder, error.strerror, rescan_s)
        try:
            while not stop.is_set():
                waiting = self._scan_or_wait()
                # A drop that settles sends no further event, so while one is there we look at it more often.
                look_again = time.monotonic() + (min(rescan_s, max(0.2, self.settle_s / 4)) if waiting else rescan_s)
                while not stop.is_set() and (left := look_again - time.monotonic()) > 0:
                    if wake.wait(min(left, _STOP_EVERY_S)):
                        break
                wake.clear()
        finally:
            if observer.is_alive():
                observer.stop()
                observer.join()

    def _scan_or_wait(self) -> int:
        """Look once. A share that is gone for a while must not end the watching."""
        try:
            return self.scan()
        except OSError as error:
            log.warning("%s can't be looked at: %s", self.folder, error)
            return 0

    def scan(self) -> int:
        """Take what has arrived. Returns how many drops are still on their way."""
        for name in (ACCEPTED, REFUSED):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self._finish_accepted()
        waiting = 0
        names = _folders(self.folder)
        for name in names:
            if name in (ACCEPTED, REFUSED):
                continue
            if self._arrived(self.folder / name):
                self._seen.pop(name, None)
                self._take(self.folder / name)
            else:
                waiting += 1
        for name in set(self._seen) - set(names):
            del self._seen[name]
        return waiting

    def _arrived(self, drop: Path) -> bool:
        job_file = drop / JOB_FILE
        try:
            if not job_file.is_file():
                return False
            sizes = _sizes(drop)
            listed = _listed_files(job_file)
        except OSError:
            return False  # it is being moved in or out just now
        if any(name.endswith(_TEMPORARY) for name in sizes):
            return False
        if listed is not None:
            # What can't arrive, because it lies elsewhere, isn't waited for: the drop is refused for it.
            return all(sizes.get(name, (-1, 0))[0] == size for name, size in listed.items() if not _leads_out(name))
        look = hashlib.sha256(json.dumps(sizes, sort_keys=True).encode()).hexdigest()
        seen = self._seen.setdefault(drop.name, _Seen(look, self.clock()))
        if seen.print != look:
            seen.print, seen.since = look, self.clock()
        return self.clock() - seen.since >= self.settle_s

    def _take(self, drop: Path) -> None:
        accepted = _free_name(self.folder / ACCEPTED, drop.name)
        try:
            drop.rename(accepted)
        except FileNotFoundError:
            return  # another watcher was faster
        self._submit(accepted)

    def _finish_accepted(self) -> None:
        """Submit what was moved but not submitted when a watcher died. The key makes this safe."""
        for name in _folders(self.folder / ACCEPTED):
            drop = self.folder / ACCEPTED / name
            if (drop / JOB_FILE).exists() and not (drop / _SUBMITTED).exists():
                self._submit(drop)

    def _submit(self, drop: Path) -> None:
        """Hand a drop in. One that can't be read or moved just now is left for the next look."""
        try:
            self._hand_in(drop)
        except FileNotFoundError:
            log.warning("%s is gone: another watcher or a person has moved it", drop.name)
        except OSError as error:
            log.warning("%s waits: %s", drop.name, error)

    def _hand_in(self, drop: Path) -> None:
        try:
            request, key = _request(drop)
            reply = self.submit(request, key)
        except SubmissionRefused as error:
            self._refuse(drop, error.faults)
        except DispatcherError as error:
            if error.status not in (400, 409, 413, 422):
                log.warning("%s waits: %s", drop.name, error.message)
                return
            faults = [Fault(f["where"], f["message"], f.get("hint", "")) for f in error.faults]
            self._refuse(drop, faults or [Fault(drop.name, error.message, error.hint)])
        except PipelineError as error:
            self._refuse(drop, [Fault(drop.name, error.message, error.hint)])
        else:
            # A name of its own: two watchers may hand in the same drop at once, and get the same job.
            marker = drop / f"{_SUBMITTED}.{secrets.token_hex(4)}.part"
            marker.write_text(json.dumps(reply))
            marker.replace(drop / _SUBMITTED)
            log.info("%s became job %s", drop.name, reply.get("job"))

    def _refuse(self, drop: Path, faults: list[Fault] | tuple[Fault, ...]) -> None:
        target = _free_name(self.folder / REFUSED, drop.name)
        lines = [f"{drop.name} was refused:", ""]
        for fault in faults:
            lines.append(f"- {fault.where}: {fault.message}")
            if fault.hint:
                lines.append(f"  {fault.hint}")
        # The reason first: a folder in `refused` always has one beside it.
        target.with_name(target.name + ".reason.txt").write_text("\n".join(lines) + "\n")
        drop.rename(target)
        log.warning("%s was refused: %s", drop.name, faults[0].message)


class _Hint(FileSystemEventHandler):
    def __init__(self, wake: threading.Event) -> None:
        self._wake = wake

    def on_any_event(self, event: FileSystemEvent) -> None:
        self._wake.set()


def _folders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted, but the hidden ones and links."""
    with os.scandir(folder) as entries:
        found = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    return sorted(name for name in found if not name.startswith("."))


def _leads_out(text: str) -> bool:
    path = PurePosixPath(text)
    return path.is_absolute() or ".." in path.parts


def _sizes(drop: Path) -> dict[str, tuple[int, int]]:
    """Relative path → (bytes, mtime in ns) of every file below."""
    out: dict[str, tuple[int, int]] = {}
    for folder, _, names in os.walk(drop):
        for name in names:
            path = Path(folder) / name
            status = path.lstat()
            out[path.relative_to(drop).as_posix()] = (status.st_size, status.st_mtime_ns)
    return out


def _listed_files(job_file: Path) -> dict[str, int] | None:
    """The job file's own list of what must have arrived; None when it has none or isn't whole yet."""
    try:
        listed = json.loads(job_file.read_bytes())["files"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if isinstance(listed, dict) and all(isinstance(v, int) for v in listed.values()):
        return {PurePosixPath(name).as_posix(): size for name, size in listed.items()}
    return None


def _request(drop: Path) -> tuple[dict[str, Any], str]:
    """The submission of a drop and its key. Raises: SubmissionRefused."""
    job_file = drop / JOB_FILE
    status = job_file.stat()
    if status.st_size > _MOST_BYTES:
        raise SubmissionRefused(
            [Fault(JOB_FILE, "is larger than 1 MB", "a job file holds a submission's fields, nothing else")]
        )
    raw = job_file.read_bytes()
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise SubmissionRefused(
            [Fault(JOB_FILE, f"is not JSON: {error}", "see docs/watch_folder.md for an example")]
        ) from error
    if not isinstance(body, dict):
        raise SubmissionRefused([Fault(JOB_FILE, "is not a JSON object", "see docs/watch_folder.md for an example")])
    faults: list[Fault] = []
    listed = body.pop("files", None)

    def inside(text: Any, where: str) -> Any:
        if not isinstance(text, str):
            return text  # the dispatcher says what is wrong with it
        if _leads_out(text):
            faults.append(
                Fault(where, f"{text} leads out of the drop", "give a path relative to the drop's own folder")
            )
        return str(drop.absolute() / text)

    for name in listed if isinstance(listed, dict) else ():
        inside(name, "files")

    for name in _PATH_FIELDS:
        if body.get(name) is not None:
            body[name] = inside(body[name], name)
    keys = body.get("keys")
    for key in keys if isinstance(keys, list) else ():
        if isinstance(key, dict) and "path" in key:
            key["path"] = inside(key["path"], f"key {key.get('frame')}")
    _hold_parameters(body, inside)
    if faults:
        raise SubmissionRefused(faults)
    # The file's own number and time are kept by a rename, and tell a drop from a later one of the same name and content.
    itself = f"{drop.name}\0{status.st_ino}\0{status.st_mtime_ns}\0".encode(errors="surrogateescape")
    return body, "watch-" + hashlib.sha256(itself + raw).hexdigest()[:40]


def _hold_parameters(body: dict[str, Any], inside: Callable[[Any, str], Any]) -> None:
    """Bring every path among a drop's parameters inside it: of the request, of its takes, of its wedge; weights and sounds too."""
    try:
        paths = path_parameters(task(str(body.get("task"))).parameters)
    except PipelineError:
        paths = frozenset()  # no such task: the dispatcher says so

    def hold(values: Any) -> None:
        if not isinstance(values, dict):
            return
        for name, value in values.items():
            where = f"parameter {name}"
            if name in paths:
                values[name] = [inside(v, where) for v in value] if isinstance(value, list) else inside(value, where)
            elif isinstance(value, dict) and "audio" in value:
                value["audio"] = inside(value["audio"], where)
            elif isinstance(value, list):
                for each in value:
                    if isinstance(each, dict) and "audio" in each:
                        each["audio"] = inside(each["audio"], where)

    takes = body.get("takes")
    wholes = [body, *(take for take in (takes if isinstance(takes, list) else ()) if isinstance(take, dict))]
    for whole in wholes:
        hold(whole.get("parameters"))
        if _is_path(whole.get("model")):
            whole["model"] = inside(whole["model"], "model")
    wedge = body.get("wedge")
    hold(wedge)
    if isinstance(wedge, dict) and isinstance(wedge.get("model"), list):
        wedge["model"] = [inside(m, "model") if _is_path(m) else m for m in wedge["model"]]


def _is_path(model: Any) -> bool:
    """Whether a model is named by where it lies, as `pipeline.intake` takes it."""
    return isinstance(model, str) and ("/" in model or bool(PurePosixPath(model).suffix))


def _free_name(folder: Path, name: str) -> Path:
    """A path in `folder` that nothing has yet: a drop's name may come again."""
    path, n = folder / name, 2
    while path.exists() or path.with_name(path.name + ".reason.txt").exists():
        path, n = folder / f"{name}-{n}", n + 1
    return path
