"""One try of one chunk, as its worker sees it: the session child is fed, listened to and watched."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import psutil

from farm.child import Child, ChildGone
from farm.states import FailureKind
from farm.wire import Assignment, PreviewNote, ProgressBody

_POLL_S = 0.2
_NEWS_EVERY_S = 0.5
_MEMORY_EVERY_S = 1.0
_STOP_S = 5.0
"""How long a session may take to stop before it is killed."""
_MEMORY_HEADROOM = 2.0
"""A session may pass its task's stated memory by this factor before it is killed: plates differ, machines must live."""


class Host(Protocol):
    """What an attempt needs of its worker."""

    stop: threading.Event

    @property
    def memory_limit_mb(self) -> int:
        """This worker's own limit; 0 when it has none."""
        ...

    def start_session(self) -> Child:
        """A live session child, started if need be."""
        ...

    def end_session(self) -> None:
        """Kill the session child and whatever it started."""
        ...

    def heard(self, message: dict[str, Any]) -> None:
        """Remember what a session says of itself."""
        ...

    def say_progress(self, body: ProgressBody) -> dict[str, Any] | None:
        """One sign of life. None when the dispatcher can't be reached just now: the work goes on."""
        ...

    def log_lines(self) -> tuple[str, ...]:
        """Log lines since the last call."""
        ...

    def keep_log_lines(self, lines: tuple[str, ...]) -> None:
        """Lines that nobody has heard: they come first the next time."""
        ...


@dataclass(slots=True)
class Outcome:
    """How an attempt ended: done, failed, or neither when nobody wants it any more."""

    done: dict[str, Any] | None = None
    failed: tuple[FailureKind, str, str] | None = None


@dataclass(slots=True)
class _News:
    fraction: float = 0.0
    note: str = ""
    done: str = ""
    previews: list[PreviewNote] = field(default_factory=list)
    advanced: bool = False


class Attempt:
    """One try of one chunk in the session child, watched."""

    def __init__(self, worker: Host, assignment: Assignment) -> None:
        self._worker = worker
        self._assignment = assignment
        self._news = _News()
        self._told_at = time.monotonic()
        self._moved_at = time.monotonic()
        self._weighed_at = time.monotonic()

    def run(self) -> Outcome:
        """Do it to its end."""
        try:
            child = self._worker.start_session()
            child.send({"do": "chunk", "assignment": self._assignment.model_dump(mode="json")})
            while True:
                message = child.receive(_POLL_S)
                if message is not None:
                    self._moved_at = time.monotonic()
                    outcome = self._heard(message)
                    if outcome is not None:
                        return outcome
                if self._worker.stop.is_set():
                    return Outcome()
                outcome = self._watch(child)
                if outcome is not None:
                    return outcome
        except ChildGone as gone:
            self._worker.end_session()
            hint = "the frame may crash its decoder or the model, or the machine ran out of memory: see the log"
            return Outcome(failed=(FailureKind.CRASH, f"the session {gone.words()}", hint))

    def _heard(self, message: dict[str, Any]) -> Outcome | None:
        self._worker.heard(message)
        news = self._news
        news.advanced = True
        match message["event"]:
            case "progress":
                news.fraction, news.note = message["fraction"], message["note"]
            case "frames":
                news.done = message["done"]
            case "preview":
                news.previews.append(PreviewNote(frame=message["frame"], path=message["path"]))
                if len(news.previews) == 1:
                    self._told_at = 0.0  # the first pictures are what somebody waits for
            case "done":
                return Outcome(done=message["result"])
            case "failed":
                return Outcome(failed=(FailureKind(message["kind"]), message["message"], message["hint"]))
            case "cancelled":
                return Outcome()
        return None

    def _watch(self, child: Child) -> Outcome | None:
        """The things that go wrong from outside: lost leases, memory, silence."""
        now = time.monotonic()
        every = _NEWS_EVERY_S if self._news.advanced else min(self._assignment.lease_s / 3, 5.0)
        if now - self._told_at >= every:
            self._told_at = now
            if not self._tell():
                return self._stop(child)
        if now - self._weighed_at >= _MEMORY_EVERY_S:
            self._weighed_at = now
            limit = self._worker.memory_limit_mb or int(self._assignment.memory_mb * _MEMORY_HEADROOM)
            used = _memory_mb(child.pid)
            if used > limit:
                self._worker.end_session()
                return Outcome(
                    failed=(
                        FailureKind.MEMORY,
                        f"the session used {used} MB, {limit} MB are allowed",
                        "use a smaller plate or a bigger worker",
                    )
                )
        if now - self._moved_at > self._assignment.no_progress_s:
            self._worker.end_session()
            return Outcome(
                failed=(FailureKind.HUNG, f"no progress for {self._assignment.no_progress_s:.0f} s", "see the log")
            )
        return None

    def _tell(self) -> bool:
        """Send what is new. Returns whether to go on."""
        news = self._news
        lines = self._worker.log_lines()
        reply = self._worker.say_progress(
            ProgressBody(
                chunk_id=self._assignment.chunk_id,
                attempt=self._assignment.attempt,
                fraction=news.fraction,
                note=news.note,
                done_frames=news.done,
                advanced=news.advanced,
                previews=tuple(news.previews),
                log=lines,
            )
        )
        if reply is None:
            self._worker.keep_log_lines(lines)
        else:
            news.advanced = False
            news.previews.clear()
        return reply is None or reply["stop"] is None

    def _stop(self, child: Child) -> Outcome | None:
        """Nobody wants this chunk any more: ask the session to stop, and end it if it doesn't."""
        child.send({"do": "cancel"})
        deadline = time.monotonic() + _STOP_S
        while time.monotonic() < deadline:
            message = child.receive(_POLL_S)
            if message is not None and message["event"] in ("cancelled", "done", "failed"):
                return Outcome()
        self._worker.end_session()
        return Outcome()


def _memory_mb(pid: int) -> int:
    """Resident memory of a process and all below it, in MB; 0 when it has just gone."""
    try:
        process = psutil.Process(pid)
        return sum(int(p.memory_info().rss) for p in (process, *process.children(recursive=True))) >> 20
    except psutil.Error:
        return 0
