"""A worker: asks the dispatcher for chunks, has a session child do them, and says how it went.

It holds no state that matters: killed at any moment, its chunk's lease runs out and another worker does it. What it must
do for every answer of the dispatcher stands in docs/worker_protocol.md.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import psutil
from pydantic import ValidationError

from farm.attempt import Attempt
from farm.child import Child, ChildGone
from farm.states import FailureKind
from farm.wire import Assignment, CompleteBody, FailBody, Hello, ProgressBody
from integrations._shared.client import Client, DispatcherError

log = logging.getLogger("platewright.worker")

_LONG_POLL_S = 20.0
_LOADING_POLL_S = 1.0
_MOST_LOG_LINES = 200
_MOST_FAULTS = 5
"""Times that the dispatcher may fall over the same report before it is given up."""


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """One worker's place on its machine."""

    name: str
    pools: tuple[str, ...] = ("default",)
    tags: tuple[str, ...] = ()
    memory_mb: int = 0
    """What a session may use; 0 takes what the task states, with headroom."""
    warm: tuple[str, ...] = ("roto",)
    once: bool = False
    """Stop when no work is left: for tests and batch machines."""
    session_module: str = "farm.session"
    """The child that does the work: whatever speaks a session's side of docs/worker_protocol.md."""


def default_name() -> str:
    """Host and process: two workers on one machine are two."""
    return f"{socket.gethostname().split('.')[0]}-{os.getpid()}"


class Worker:
    """The loop. `shut_down` ends it, from a signal handler or another thread."""

    def __init__(self, client: Client, config: WorkerConfig, *, version: str) -> None:
        self._client = client
        self._config = config
        self._path = f"/v1/workers/{quote(config.name, safe='')}"
        self._version = version
        self._session: Child | None = None
        self._warm = ""
        self._settled = False
        self._log = _LogBuffer()
        self.stop = threading.Event()

    def run(self) -> None:
        """Work until `stop` is set, or with `once` until nothing waits."""
        self._start_session()
        self._insist("arrive", self._hello().model_dump())
        following: dict[str, Any] | None = None
        failures = 0
        try:
            while not self.stop.is_set():
                try:
                    reply = following or self._claim()
                except DispatcherError as error:
                    failures += 1
                    self._pause_after(error, failures)
                    continue
                failures = 0
                if reply is None:
                    if self._config.once:
                        return
                    continue
                following = self._understand(reply)
        finally:
            self._end_session()
            self._leave()
            self._client.close()

    def shut_down(self) -> None:
        """Stop soon: an idle worker needn't wait for the answer to its claim."""
        self.stop.set()
        self._client.interrupt()

    def _leave(self) -> None:
        """Give back what is held. Without it the lease would run out, and count against this worker."""
        try:
            self._client.post(f"{self._path}/leave", timeout_s=3)
        except DispatcherError as error:
            log.warning("left without a word: %s", error.message)

    def _claim(self) -> dict[str, Any] | None:
        self._listen()
        # While the session still loads, ask often: its model is told with a claim, and decides which chunk is best for it.
        wait_s = 0.0 if self._config.once else _LONG_POLL_S if self._settled else _LOADING_POLL_S
        path = f"{self._path}/claim"
        body = {"hello": self._hello().model_dump(), "wait_s": wait_s}
        reply: dict[str, Any] | None = self._client.post(path, body, timeout_s=wait_s + 10, unless=self.stop.is_set)
        return reply

    def _listen(self) -> None:
        """Hear what the idle session has said: that it is warm, and ready."""
        try:
            while self._session is not None and (message := self._session.receive(0)) is not None:
                self.heard(message)
        except ChildGone as gone:
            log.warning("the idle session %s; the next chunk starts another", gone.words())
            self._end_session()
            self._settled = True

    def _hello(self) -> Hello:
        memory = self._config.memory_mb or psutil.virtual_memory().total >> 20
        return Hello(
            host=socket.gethostname(),
            version=self._version,
            pools=self._config.pools,
            tags=self._config.tags,
            memory_mb=memory,
            warm=self._warm,
        )

    def _understand(self, reply: dict[str, Any]) -> dict[str, Any] | None:
        try:
            assignment = Assignment.model_validate(reply)
        except ValidationError as error:
            # Kept to itself, the chunk would be held until its lease ran out, here and on the next worker of this version.
            first = error.errors()[0]
            message = f"this worker can't read the assignment: {'.'.join(map(str, first['loc']))}: {first['msg']}"
            log.error("%s", message)
            body = FailBody(
                chunk_id=reply["chunk_id"],
                attempt=reply["attempt"],
                kind=FailureKind.ERROR,
                message=message,
                hint=f"dispatcher and worker are of different versions: this worker is {self._version}",
            )
            self._insist("fail", body.model_dump())
            return None
        return self._perform(assignment)

    def _perform(self, assignment: Assignment) -> dict[str, Any] | None:
        """Do one chunk to its end. Returns the next assignment when the dispatcher gave one along with its thanks."""
        self._log.clear()
        self._log.add(
            f"{assignment.step} chunk {assignment.index}, frames {assignment.frames}, attempt {assignment.attempt}"
        )
        outcome = Attempt(self, assignment).run()
        if outcome.done is not None:
            body = CompleteBody(
                chunk_id=assignment.chunk_id,
                attempt=assignment.attempt,
                result=outcome.done,
                log=self._log.take(),
                hello=None if self.stop.is_set() else self._hello(),
            )
            reply = self._insist("complete", body.model_dump())
            if reply is not None and not reply["accepted"]:
                log.warning(
                    "chunk %d: attempt %d came too late and was dropped", assignment.chunk_id, assignment.attempt
                )
            return None if reply is None else reply.get("next")
        if outcome.failed is not None:
            kind, message, hint = outcome.failed
            log.warning("chunk %d failed: %s", assignment.chunk_id, message)
            body_failed = FailBody(
                chunk_id=assignment.chunk_id,
                attempt=assignment.attempt,
                kind=kind,
                message=message[:4000],
                hint=hint[:4000],
                log=self._log.take(),
            )
            self._insist("fail", body_failed.model_dump())
        return None

    def _insist(self, verb: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """Say how a chunk ended until the dispatcher has heard it. A dispatcher that restarts meanwhile loses nothing."""
        failures = 0
        while True:
            try:
                reply: dict[str, Any] = self._client.post(f"{self._path}/{verb}", body, timeout_s=30)
                return reply
            except DispatcherError as error:
                failures += 1
                refused = 400 <= error.status < 500 and error.status not in (401, 408, 429)
                if refused or (error.status == 500 and failures > _MOST_FAULTS):
                    # Nothing will change that; the lease runs out, and the chunk is somebody's again.
                    log.error("the dispatcher refuses this %s: %s", verb, error.message)
                    return None
                if self.stop.is_set() and failures > 3:
                    return None
                self._pause_after(error, failures)

    def _pause_after(self, error: DispatcherError, failures: int) -> None:
        if failures in (1, 10) or failures % 100 == 0:
            log.warning("%s %s", error.message, error.hint)
        # Jitter, so that a farm doesn't come back to a restarted dispatcher in one blow.
        self.stop.wait(min(0.1 * 2 ** min(failures, 6), 5.0) * random.uniform(0.5, 1.0))  # noqa: S311 - not a secret

    def _start_session(self) -> Child:
        if self._session is None or not self._session.alive:
            self._end_session()
            self._session = Child(
                self._config.session_module,
                "import:pipeline.publish.run",
                *self._config.warm,
                on_stderr=self._log.add,
                env=SESSION_ENV,
            )
        return self._session

    def _end_session(self) -> None:
        if self._session is not None:
            self._session.kill()
            self._session.close()
            self._session = None
            self._warm, self._settled = "", False

    # What an attempt needs of its worker.

    def start_session(self) -> Child:
        """A live session child, started if need be."""
        return self._start_session()

    def end_session(self) -> None:
        """Kill the session child and whatever it started."""
        self._end_session()

    def heard(self, message: dict[str, Any]) -> None:
        """Remember what a session says of itself: which model it holds, and that it has loaded all it was asked to."""
        match message["event"]:
            case "warm":
                self._warm = message["identity"]
            case "done":
                self._warm = message["warm"]
            case "ready":
                self._settled = True

    def say_progress(self, body: ProgressBody) -> dict[str, Any] | None:
        """One sign of life. None when the dispatcher can't be reached just now: the work goes on."""
        try:
            reply: dict[str, Any] = self._client.post(f"{self._path}/progress", body.model_dump(), timeout_s=5)
            return reply
        except DispatcherError as error:
            return {"stop": "lost"} if error.status in (404, 409) else None

    def log_lines(self) -> tuple[str, ...]:
        """Log lines since the last call."""
        return self._log.take()

    def keep_log_lines(self, lines: tuple[str, ...]) -> None:
        """Lines that nobody has heard: they come first the next time."""
        self._log.put_back(lines)

    @property
    def memory_limit_mb(self) -> int:
        """This worker's own limit; 0 when it has none."""
        return self._config.memory_mb


SESSION_ENV = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "",
    "PYTHONUNBUFFERED": "1",
}
"""No hub is ever asked, and no switch may turn pickled weights back on."""


class _LogBuffer:
    """Log lines on their way to the dispatcher: bounded, because a mad library can print forever."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._dropped = 0
        self._lock = threading.Lock()

    def add(self, line: str) -> None:
        with self._lock:
            if len(self._lines) < _MOST_LOG_LINES:
                self._lines.append(line[:2000])
            else:
                self._dropped += 1

    def take(self) -> tuple[str, ...]:
        with self._lock:
            lines = tuple(self._lines)
            if self._dropped:
                lines += (f"({self._dropped} more lines were dropped)",)
            self._lines.clear()
            self._dropped = 0
        return lines

    def put_back(self, lines: tuple[str, ...]) -> None:
        with self._lock:
            kept = [*lines, *self._lines]
            self._dropped += max(0, len(kept) - _MOST_LOG_LINES)
            self._lines = kept[:_MOST_LOG_LINES]

    def clear(self) -> None:
        self.take()
