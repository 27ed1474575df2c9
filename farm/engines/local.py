"""The embedded engine: workers pull chunks over HTTP. This part keeps a number of them alive on the dispatcher's own machine;
others may be started by hand anywhere."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping

log = logging.getLogger("platewright.engine")

_LOOK_S = 0.5
_QUICK_DEATH_S = 10.0
_MOST_WAIT_S = 60.0


class LocalEngine:
    """Runs `count` worker processes, and starts one anew when it dies; one that keeps dying at once is given longer and longer."""

    name = "local"

    def __init__(self, count: int, *, environment: Mapping[str, str], arguments: tuple[str, ...] = ()) -> None:
        self._count = count
        self._environment = {**os.environ, **environment}
        self._arguments = arguments
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """See Engine."""
        for slot in range(self._count):
            thread = threading.Thread(target=self._keep, args=(slot,), name=f"platewright-worker-{slot}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """See Engine."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=15)

    def _keep(self, slot: int) -> None:
        quick_deaths = 0
        while not self._stop.is_set():
            started = time.monotonic()
            process = subprocess.Popen(
                [sys.executable, "-m", "farm.cli.main", "worker", "--parent-pipe", *self._arguments],
                env=self._environment,
                stdin=subprocess.PIPE,
            )
            while process.poll() is None and not self._stop.wait(_LOOK_S):
                pass
            if self._stop.is_set():
                _end(process)
                return
            quick_deaths = quick_deaths + 1 if time.monotonic() - started < _QUICK_DEATH_S else 0
            wait_s = min(_MOST_WAIT_S, 0.5 * 2**quick_deaths)
            log.warning("worker %d ended with %s; started again in %.1f s", slot, process.returncode, wait_s)
            self._stop.wait(wait_s)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=8)
        return
    process.kill()
    process.wait()
