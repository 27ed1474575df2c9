"""A worker whose every move a test decides. It speaks the real protocol over HTTP and writes real pictures; only the model is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from integrations._shared.client import Client
from pipeline.frames import FrameRange
from pipeline.media.proxy import write_jpeg
from pipeline.publish.values import proxy_path

KINDS = ("beauty", "matte", "overlay")


def colour_of(frame: int, kind: str) -> tuple[int, int, int]:
    """A colour that is another one for every frame and kind, and far enough from the others to outlive a JPEG."""
    step = frame % 12
    return (20 + 18 * step, 240 - 18 * step, 60 + 70 * KINDS.index(kind))


def flat_picture(frame: int, kind: str) -> np.ndarray:
    """(36, 64, 3) display pixels."""
    return np.broadcast_to(np.array(colour_of(frame, kind), np.uint8), (36, 64, 3)).copy()


class ScriptedWorker:
    """Takes chunks of one pool, one at a time."""

    def __init__(self, client: Client, name: str, pool: str) -> None:
        self._client = client
        self._name = name
        self._pool = pool
        self.chunk: dict[str, Any] = {}

    def claim(self, wait_s: float = 0.0) -> dict[str, Any]:
        """Take the next chunk, which must be there."""
        hello = {"host": "test", "version": "0", "pools": [self._pool], "memory_mb": 100_000}
        got = self._client.post(f"/v1/workers/{self._name}/claim", {"hello": hello, "wait_s": wait_s})
        assert got is not None, f"nothing waits in pool {self._pool}"
        self.chunk = got
        return self.chunk

    def progress(self, fraction: float, done: str = "", *, log: tuple[str, ...] = (), note: str = "") -> dict[str, Any]:
        """A sign of life. Returns the verdict."""
        body = {**self._held(), "fraction": fraction, "done_frames": done, "log": log, "note": note}
        reply: dict[str, Any] = self._client.post(f"/v1/workers/{self._name}/progress", body)
        return reply

    def preview(self, frame: int) -> None:
        """Write an early picture, and say so."""
        path = Path(self.chunk["preview_folder"]) / f"{frame}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_jpeg(path, flat_picture(frame, "overlay"))
        body = {**self._held(), "previews": [{"frame": frame, "path": str(path)}]}
        self._client.post(f"/v1/workers/{self._name}/progress", body)

    def complete(self, result: dict[str, Any] | None = None, *, log: tuple[str, ...] = ()) -> None:
        """Hand the chunk in."""
        body = {**self._held(), "result": result or {}, "log": log}
        reply = self._client.post(f"/v1/workers/{self._name}/complete", body)
        assert reply["accepted"]

    def fail(self, message: str, hint: str = "", *, kind: str = "refused", log: tuple[str, ...] = ()) -> None:
        """Say that it came to nothing."""
        body = {**self._held(), "kind": kind, "message": message, "hint": hint, "log": log}
        assert self._client.post(f"/v1/workers/{self._name}/fail", body)["accepted"]

    def infer(self, confidence: float = 0.9) -> None:
        """Take an infer chunk and hand it in."""
        chunk = self.claim()
        assert chunk["step"] == "infer"
        frames = FrameRange.parse(chunk["frames"])
        self.complete({"frames": {str(f): {"confidence": confidence} for f in frames}, "layers": ["matte"]})

    def publish(self) -> dict[str, Any]:
        """Take the publish, write the version's review pictures, and hand it in."""
        chunk = self.claim()
        assert chunk["step"] == "publish"
        frames = FrameRange.parse(chunk["frames"])
        version = chunk["version"]
        folder = Path(version["folder"])
        for frame in frames:
            for kind in KINDS:
                path = proxy_path(folder, kind, frame)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_jpeg(path, flat_picture(frame, kind))
        rows = [{"frame": f, "confidence": round(0.99 - 0.04 * (i % 6), 3)} for i, f in enumerate(frames)]
        published = {
            "name": version["name"],
            "path": str(folder),
            "frames": chunk["frames"],
            "layers": ["rgb", "matte"],
            "colorspace": "lin_rec709_scene",
        }
        flicker = {"matte": {"score": 1.25, "worst": frames.frames[2]}}
        self.complete(
            {"version": published, "report": {"frames": rows, "next_key": frames.frames[5], "flicker": flicker}}
        )
        return dict(json.loads(json.dumps(version)))

    def whole_job(self) -> dict[str, Any]:
        """Fit, every chunk, publish. Returns the version."""
        assert self.claim()["step"] == "fit"
        self.complete()
        for _ in range(3):
            self.infer()
        return self.publish()

    def _held(self) -> dict[str, Any]:
        return {"chunk_id": self.chunk["chunk_id"], "attempt": self.chunk["attempt"]}
