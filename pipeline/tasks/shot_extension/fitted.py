"""What a fit leaves in its folder: `fit.json`, and `shot.npz` with cameras, what moves, grain, the filled
canvases, and what a model changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RunnerError
from pipeline.tasks.shot_extension.camera import Matrix
from pipeline.tasks.shot_extension.grain import Grain
from pipeline.tasks.shot_extension.plan import Scene

SCHEMA = "platewright.shot-extension-fit/1"
_FACTS, _ARRAYS = "fit.json", "shot.npz"

Float = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Canvas:
    """A frame's surroundings, small and whole: what its neighbours take where no frame shows anything.

    `picture`: (h, w, 3) in model space; `matrix`: the canvas's pixels to the frame's own full-size ones.
    """

    frame: int
    picture: Float
    matrix: Matrix


@dataclass(frozen=True, slots=True)
class Fitted:
    """A shot that was looked at. `asked`: the frames that are delivered, by scene. `sources`: frame → frames it is gathered from, the most
    telling first. `moving`: frame → (h, w) 0 … 1, what doesn't follow the camera, on the flow's grid; only in space. `changes`: missing
    frame → (h, w, 3), what a video model changes about it, small and over the window."""

    scenes: tuple[Scene, ...]
    asked: tuple[frozenset[int], ...]
    sources: Mapping[int, tuple[int, ...]]
    moving: Mapping[int, Float]
    canvases: tuple[Canvas, ...]
    grain: Grain
    changes: Mapping[int, Float] = field(default_factory=dict)

    def scene_of(self, frame: int) -> Scene:
        """The scene that a frame lies in: the fit knows all frames that are delivered. Raises: RunnerError."""
        for scene, asked in zip(self.scenes, self.asked, strict=True):
            if frame in asked:
                return scene
        raise RunnerError(f"frame {frame} was not in the fit", "run the fit step again")


def save(folder: Path, fitted: Fitted) -> None:
    """Write both files. Raises: OSError."""
    arrays: dict[str, NDArray[Any]] = {
        "levels": fitted.grain.levels,
        "sigma": fitted.grain.sigma,
        "mix": fitted.grain.mix,
    }
    for number, scene in enumerate(fitted.scenes):
        arrays[f"camera{number}"] = np.stack([scene.camera[frame] for frame in scene.frames])
    for frame, moving in fitted.moving.items():
        _, packed = cv2.imencode(".png", (moving * 255 + 0.5).astype(np.uint8))
        arrays[f"moving{frame}"] = packed
    for number, canvas in enumerate(fitted.canvases):
        arrays[f"canvas{number}"] = canvas.picture
        arrays[f"canvas{number}_matrix"] = canvas.matrix
    for frame, change in fitted.changes.items():
        arrays[f"change{frame}"] = change.astype(np.float16)
    np.savez(folder / _ARRAYS, **arrays)  # type: ignore[arg-type]  # the stub takes the names for allow_pickle
    facts = {
        "schema": SCHEMA,
        "scenes": [list(scene.frames) for scene in fitted.scenes],
        "asked": [sorted(asked) for asked in fitted.asked],
        "sources": {str(frame): list(sources) for frame, sources in fitted.sources.items()},
        "moving": sorted(fitted.moving),
        "changes": sorted(fitted.changes),
        "canvases": [canvas.frame for canvas in fitted.canvases],
        "correlation": fitted.grain.correlation,
    }
    (folder / _FACTS).write_text(json.dumps(facts, indent=1, sort_keys=True), encoding="utf-8")


def load(folder: Path, moving_of: set[int] | None = None) -> Fitted:
    """Read both; `moving_of` limits whose moving parts are unpacked. Raises: RunnerError (no finished fit, or another version's)."""
    try:
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        if facts.get("schema") != SCHEMA:
            raise RunnerError("the fit of this shot is of another version", "run the fit step again")
        with np.load(folder / _ARRAYS) as arrays:
            return _unpacked(facts, arrays, moving_of)
    except (OSError, KeyError, ValueError) as error:
        raise RunnerError("this shot has no finished extension fit", "run the fit step again") from error


def _unpacked(facts: Mapping[str, Any], arrays: Mapping[str, Any], moving_of: set[int] | None) -> Fitted:
    scenes = tuple(
        Scene(tuple(frames), dict(zip(frames, arrays[f"camera{number}"], strict=True)))
        for number, frames in enumerate(facts["scenes"])
    )
    moving = {}
    for frame in facts["moving"]:
        if moving_of is None or frame in moving_of:
            plane = cv2.imdecode(arrays[f"moving{frame}"], cv2.IMREAD_GRAYSCALE)
            if plane is None:
                raise ValueError("damaged PNG")
            moving[frame] = (plane / np.float32(255)).astype(np.float32)
    canvases = tuple(
        Canvas(frame, arrays[f"canvas{number}"].astype(np.float32), arrays[f"canvas{number}_matrix"])
        for number, frame in enumerate(facts["canvases"])
    )
    grain = Grain(arrays["levels"], arrays["sigma"], float(facts["correlation"]), arrays["mix"])
    sources = {int(frame): tuple(values) for frame, values in facts["sources"].items()}
    asked = tuple(frozenset(frames) for frames in facts["asked"])
    changes = {frame: arrays[f"change{frame}"].astype(np.float32) for frame in facts["changes"]}
    return Fitted(scenes, asked, sources, moving, canvases, grain, changes)
