"""States of a training on disk: tensors as safetensors, plain facts beside them as JSON in the same file's metadata."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import RunnerError
from pipeline.paths import disk_fault, storage_error

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("platewright.training")
_KEPT = 2
_FACTS = "platewright.facts"
_EVERY = "PLATEWRIGHT_CHECKPOINT_S"


def checkpoint_s() -> float:
    """PLATEWRIGHT_CHECKPOINT_S, 30 when it isn't set: what a killed training loses at most, against what a state costs to write.

    Raises: RunnerError (no number from 0 up): another worker may do it.
    """
    text = os.environ.get(_EVERY, "30")
    try:
        every = float(text)
    except ValueError:
        every = math.nan
    if not 0 <= every < math.inf:
        raise RunnerError(f"{_EVERY} is {text!r}", "set it to a number of seconds from 0 up, or leave it out")
    return every


class FolderCheckpoints:
    """Keeps the newest states in a folder that outlives an attempt. Keeps `pipeline.tasks.training.Checkpoints`.

    A state is one file, renamed into place whole and named by its step, so an attempt that was thought dead and still
    writes can't harm: what it writes is a state of the same training.
    """

    def __init__(self, folder: Path, *, every_s: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._every_s = every_s
        self._clock = clock
        self._kept_at = clock()

    def newest(self) -> tuple[int, Mapping[str, Tensor], Mapping[str, object]] | None:
        """See Checkpoints.newest. A state that can't be read counts as none: the one before it is taken."""
        from safetensors import SafetensorError, safe_open

        for path in self._states():
            try:
                with safe_open(path, "pt") as file:
                    facts = json.loads(file.metadata()[_FACTS])
                    tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                    log.info("found a checkpoint of step %d", int(path.stem))
                    return int(path.stem), tensors, facts
            except (OSError, ValueError, KeyError, TypeError, SafetensorError):
                continue
        return None

    def _states(self) -> list[Path]:
        """The newest first. Files of other names are nobody's state."""
        return sorted((p for p in self._folder.glob("*.safetensors") if p.stem.isdecimal()), reverse=True)

    def due(self) -> bool:
        """See Checkpoints.due."""
        return self._clock() - self._kept_at >= self._every_s

    def keep(self, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, object]) -> None:
        """See Checkpoints.keep."""
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        path = self._folder / f"{step:09d}.safetensors"
        part = self._folder / f".{path.name}.{os.getpid()}.part"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            save_file(
                {n: t.detach().contiguous() for n, t in tensors.items()}, part, metadata={_FACTS: json.dumps(facts)}
            )
            part.replace(path)
            for old in self._states()[_KEPT:]:
                old.unlink(missing_ok=True)
        except (OSError, SafetensorError) as error:
            with contextlib.suppress(OSError):
                part.unlink()
            fault = disk_fault(error) or error
            raise storage_error(fault if isinstance(fault, OSError) else OSError(str(error)), path) from error
        self._kept_at = self._clock()
