"""Reads strangers' files in a child process with limits: timelines, plates, keys.

A timeline nested 200,000 deep crashes its parser, a 585-byte EXR can ask for 74 GiB: here that costs a child, not the dispatcher.
One child is kept warm between submissions and replaced when it died or served long enough.
"""

from __future__ import annotations

import threading
from typing import Any

from farm.child import Child, ChildGone
from pipeline import errors
from pipeline.errors import EditError, PipelineError, PlateError

TIMEOUT_S = 900.0
MOST_CALLS = 500


class Inspector:
    """The warm child, from the dispatcher's side. Calls are served one at a time; thread-safe."""

    def __init__(self, *, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._calls = 0

    def warm_up(self) -> None:
        """Start the child now, so that the first submission doesn't wait for its imports."""
        with self._lock:
            self._ensure()

    def call(self, what: str, arguments: dict[str, Any]) -> Any:
        """Ask the child for `edit`, `intake` or `sheet`.

        Raises: whatever PipelineError the child raised; EditError or PlateError when it died of the files.
        """
        with self._lock:
            try:
                answer = self._ask(what, arguments)
            except ChildGone:
                # A child that served before may have been killed while nobody looked; a fresh one that dies, died of these files.
                try:
                    answer = self._ask(what, arguments)
                except ChildGone as gone:
                    raise _died(what, arguments, gone.words()) from None
            if answer is None:
                self._drop()
                raise _died(what, arguments, f"took more than {self._timeout_s:.0f} s")
        if "error" in answer:
            kind = getattr(errors, str(answer["error"]), PipelineError)
            raise kind(answer["message"], answer["hint"])
        return answer["result"]

    def _ask(self, what: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
        """One question; None when no answer came in time. Raises: ChildGone, and the child is dropped."""
        child = self._ensure()
        self._calls += 1
        try:
            child.send({"call": what, "arguments": arguments})
            return child.receive(self._timeout_s)
        except ChildGone:
            self._drop()
            raise

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._drop()

    def _ensure(self) -> Child:
        if self._child is not None and (not self._child.alive or self._calls >= MOST_CALLS):
            self._drop()
        if self._child is None:
            self._child = Child("farm.reader")
            self._calls = 0
        return self._child

    def _drop(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.close()
            self._child = None


def _died(what: str, arguments: dict[str, Any], how: str) -> PipelineError:
    if what == "edit":
        return EditError(
            f"{arguments.get('path')}: the reader {how}", "the timeline is broken or hostile; export it again"
        )
    return PlateError(
        f"the files could not be read safely: the reader {how}", "check the timeline, plate and keys one by one"
    )
