"""A child process that is asked in JSON lines, and may die of what it is asked.

Two kinds exist: the inspector, which reads strangers' files, and the session, which holds a model. Both talk the same way:
one JSON object a line on stdin, one a line on stdout; whatever libraries print goes to stderr. A child whose stdin closes
kills its own process group, so that a parent that was killed leaves no orphan behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import IO, Any


class ChildGone(Exception):
    """The child died or was killed. `returncode` is negative for a signal."""

    def __init__(self, returncode: int | None) -> None:
        super().__init__(f"exit {returncode}")
        self.returncode = returncode

    def words(self) -> str:
        """How it ended, for people."""
        if self.returncode is not None and self.returncode < 0:
            with contextlib.suppress(ValueError):
                return f"was killed by {signal.Signals(-self.returncode).name}"
        return f"ended with exit code {self.returncode}"


class Child:
    """The parent's end. Not thread-safe but for `kill`; `on_stderr` gets the child's stderr line by line, from a thread."""

    def __init__(
        self,
        module: str,
        *args: str,
        env: Mapping[str, str] | None = None,
        on_stderr: Callable[[str], None] | None = None,
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if on_stderr else None,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
        self._messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._read_messages, daemon=True)]
        if on_stderr is not None:
            assert self._process.stderr is not None
            self._threads.append(threading.Thread(target=_pass_on, args=(self._process.stderr, on_stderr), daemon=True))
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        """The child's process id, also its process group's."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the child still runs."""
        return self._process.poll() is None

    def send(self, message: Mapping[str, Any]) -> None:
        """Ask something. Raises: ChildGone."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise ChildGone(self._end()) from None

    def receive(self, timeout_s: float) -> dict[str, Any] | None:
        """The next message; None when none came in time. Raises: ChildGone."""
        try:
            message = self._messages.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if message is None:
            self._messages.put(None)
            raise ChildGone(self._end())
        return message

    def kill(self) -> None:
        """End the child and all that it started, now."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._end()

    def close(self) -> None:
        """Close its stdin, which asks it to go, and make sure that it went."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2)
        self.kill()
        for thread in self._threads:
            thread.join(timeout=2)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _end(self) -> int | None:
        try:
            return self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return None

    def _read_messages(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            # Whatever got there before the child claimed its stdout is no message: not JSON, not text, nested without end.
            with contextlib.suppress(ValueError, RecursionError):
                message = json.loads(line)
                if isinstance(message, dict):
                    self._messages.put(message)
        self._messages.put(None)


def _pass_on(stream: IO[bytes], sink: Callable[[str], None]) -> None:
    for line in stream:
        sink(line.decode(errors="replace").rstrip("\n"))


class ParentLink:
    """The child's end: `messages` from the parent, `send` to it. Claims the real stdout for itself alone."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "wb", buffering=0)
        os.dup2(2, 1)  # whatever prints to stdout from here on, Python or C, ends in stderr
        sys.stdout = sys.stderr
        self._lock = threading.Lock()
        self.messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.on_message: Callable[[dict[str, Any]], bool] = lambda _: False
        """Sees each message first, on the reading thread; True keeps it out of `messages`."""

    def start(self) -> None:
        """Begin to read the parent's messages."""
        threading.Thread(target=self._read, daemon=True).start()

    def send(self, message: Mapping[str, Any]) -> None:
        """Tell the parent something. A parent that is gone ends this process."""
        try:
            with self._lock:
                self._out.write(json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            _die()

    def _read(self) -> None:
        # Not through sys.stdin: an interpreter that ends while a thread holds its lock aborts, and hides why it ended.
        pending = b""
        while some := os.read(0, 1 << 16):
            *lines, pending = (pending + some).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if not self.on_message(message):
                    self.messages.put(message)
        _die()


def _die() -> None:
    """The parent is gone: end this whole process group, threads in C code included."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)
