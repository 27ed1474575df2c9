"""A log for every attempt: JSON lines on the dispatcher's disk, stamped by its clock, kept when the work is long gone."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.paths import storage_error

MOST_BYTES = 4 << 20
"""A log that grows past this is cut, and says so: a mad library can print forever."""


class LogBook:
    """Logs under one folder: `<studio>/<chunk>.<attempt>.jsonl`, each line `{"t": seconds, "text": …}`."""

    def __init__(self, folder: Path, *, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._clock = clock

    def append(self, studio: str, *, chunk: int, attempt: int, lines: Sequence[str]) -> None:
        """Add lines. Raises: StorageError."""
        if not lines:
            return
        path = self._path(studio, chunk, attempt)
        now = round(self._clock(), 3)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="ascii") as log:
                if log.tell() > MOST_BYTES:
                    return
                log.writelines(_line(now, line) for line in lines)
                if log.tell() > MOST_BYTES:
                    log.write(_line(now, "(the log is too long: what follows was dropped)"))
        except OSError as error:
            raise storage_error(error, path) from error

    def read(self, studio: str, *, chunk: int, attempt: int, after: int = 0) -> list[dict[str, Any]]:
        """The lines behind line number `after`; none when nothing was written yet."""
        try:
            raw = self._path(studio, chunk, attempt).read_text(encoding="ascii", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        # A dispatcher that was killed in the middle of a line leaves half of it.
        return [entry for line in raw[after:] if (entry := _entry(line)) is not None]

    def _path(self, studio: str, chunk: int, attempt: int) -> Path:
        return self._folder / Path(studio).name / f"{chunk}.{attempt}.jsonl"


def _line(now: float, text: str) -> str:
    """In ASCII, so that no character can be taken for a line's end; half a surrogate, which nobody can show, becomes a `?`."""
    return json.dumps({"t": now, "text": text.encode(errors="replace").decode()}) + "\n"


def _entry(line: str) -> dict[str, Any] | None:
    try:
        entry: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return entry
