"""A real dispatcher and real workers, as processes on loopback, for tests."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from integrations._shared.client import Client, DispatcherError

PLATES = [sys.executable, "-m", "farm.cli.main"]


class Farmhouse:
    """A dispatcher with its own data folder. `serve` and `worker` start processes; `close` ends all that are left."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.published = folder / "published"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("PLATEWRIGHT_")},
            "PLATEWRIGHT_DATA": str(self.data),
            "PLATEWRIGHT_PORT": str(self.port),
            "PLATEWRIGHT_PUBLISH_ROOT": str(self.published),
            "PLATEWRIGHT_URL": self.url,
            **environment,
        }
        self.processes: list[subprocess.Popen[bytes]] = []
        self.log = folder / "processes.log"
        self._client: Client | None = None

    def serve(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start the dispatcher and wait until it answers."""
        process = self.start("serve", *arguments)
        self.wait(self._answers, 40, "the dispatcher does not answer")
        return process

    def worker(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a worker; it may still be loading when this returns."""
        return self.start("worker", *arguments)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start any command of ours, its output in the log."""
        with self.log.open("ab") as log:
            process = subprocess.Popen([*PLATES, *arguments], env=self.environment, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def plates(self, *arguments: str, timeout_s: float = 240, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [*PLATES, *arguments],
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def client(self) -> Client:
        """The client, with the local token. It is kept open, over restarts of the dispatcher as well."""
        if self._client is None:
            self._client = Client(self.url, (self.data / "token").read_text().strip(), timeout_s=120)
        return self._client

    def submit(self, request: dict[str, Any], key: str | None = None) -> dict[str, Any]:
        """Submit through the API."""
        headers = {"Idempotency-Key": key} if key else None
        reply: dict[str, Any] = self.client().request("POST", "/v1/jobs", request, headers=headers)
        return reply

    def job(self, job: int) -> dict[str, Any]:
        """A job with its chunks."""
        detail: dict[str, Any] = self.client().get(f"/v1/jobs/{job}")
        return detail

    def ended(self, job: int, timeout_s: float = 180) -> dict[str, Any]:
        """Wait until a job has ended, and give its outcome."""

        def over() -> bool:
            try:
                return bool(self.job(job)["job"]["state"] in ("succeeded", "failed", "cancelled"))
            except DispatcherError:
                return False

        self.wait(over, timeout_s, f"job {job} does not end")
        result: dict[str, Any] = self.client().get(f"/v1/jobs/{job}/result")
        return result

    def wait(self, until: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Wait for something to become true."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if until():
                return
            time.sleep(0.05)
        raise AssertionError(
            f"{what} within {timeout_s} s\n{self.log.read_text()[-3000:] if self.log.exists() else ''}"
        )

    def sessions(self, worker: subprocess.Popen[bytes]) -> list[psutil.Process]:
        """The session children of a worker."""
        try:
            return [p for p in psutil.Process(worker.pid).children() if "farm.session" in " ".join(p.cmdline())]
        except psutil.NoSuchProcess:
            return []

    def ours(self) -> list[psutil.Process]:
        """Every process that belongs to this farmhouse, orphans included: they carry its data folder in their environment."""
        mine = []
        for process in psutil.process_iter():
            try:
                if (
                    process.environ().get("PLATEWRIGHT_DATA") == str(self.data)
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    mine.append(process)
            except psutil.Error:
                continue
        return mine

    def close(self) -> None:
        """End everything."""
        if self._client is not None:
            self._client.close()
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for process in self.ours():
            process.kill()

    def _answers(self) -> bool:
        try:
            self.client().get("/healthz")
        except (DispatcherError, OSError):
            return False
        return True


def parsed(run: subprocess.CompletedProcess[str]) -> Any:
    """The JSON that a command printed."""
    assert run.stdout.strip(), f"nothing on stdout; stderr: {run.stderr}"
    return json.loads(run.stdout)
