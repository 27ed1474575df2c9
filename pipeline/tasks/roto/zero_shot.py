"""Roto by a model that was not taught the shot: SAM 2 follows an object, a saliency model finds it on each frame.

Both leave what the flow's fit leaves, so that a chunk reads one kind of folder: `fitted.py`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RunnerError
from pipeline.tasks.contract import ShotContext
from pipeline.tasks.roto.fitted import Fitted, PriorWriter, load_priors, save_facts
from pipeline.tasks.roto.flow import Propagated, to_bytes
from pipeline.tasks.roto.layers import MATTE, WORKING_HEIGHT, fit_to, layers_of, small
from pipeline.tasks.roto.prompts import SUBJECT, Prompts, check_prompts, prompted_object
from pipeline.tasks.roto.saliency import Saliency, gate
from pipeline.tasks.roto.uncertainty import Uncertainty, uncertainty

Float = NDArray[np.float32]
Facts = Mapping[str, float | str | int | list[int]]

_LOOK = "saliency.json"
_SALIENCY_HEIGHT = 1024
"""Lines of a frame that a saliency model is shown at most."""


def follow(model: Any, shot: ShotContext, prompts: Mapping[int, Prompts]) -> Facts:
    """A fit by SAM 2: each object tracked from its keys, or from prompts, through every frame of its scene.

    Raises: RunnerError (nothing says what to follow), Cancelled.
    """
    from pipeline.tasks.roto.sam2 import Sam2Tracker, Subject, scene_breaks

    began = time.perf_counter()
    frames = list(shot.frames)
    at = {frame: i for i, frame in enumerate(frames)}
    check_prompts(shot, prompts)
    known = tuple(sorted(shot.keys)) or (SUBJECT,)
    shape = _shape(shot, frames[0])
    full = shot.plate_window.height, shot.plate_window.width
    subjects = {n: Subject({at[f]: fit_to(m, shape) for f, m in shot.keys.get(n, {}).items()}) for n in known}
    if prompts:
        scale = shape[1] / full[1], shape[0] / full[0]
        told = {at[f]: p.scaled(*scale) for f, p in prompts.items() if p.says_where or p.off}
        subjects[prompted_object(shot.keys)].prompts = told
    for frame in sorted({f for n in known for f in shot.keys.get(n, {})})[:1]:
        shot.preview(frame, {k: small(m) for k, m in layers_of(_painted(shot, known, frame)).items()})
    side = int(model.config.image_size)
    shot.prefetch(frames, side)
    breaks = scene_breaks(frames, shot.cuts)
    tracker = Sam2Tracker(model, lambda i: shot.display(frames[i], side), len(frames), shape, breaks)
    writer = PriorWriter()
    for done, tracked in enumerate(tracker.track(subjects), 1):
        frame, number = frames[tracked.index], known.index(tracked.name)
        prior = Propagated(to_bytes(tracked.matte), tracked.presence)
        writer.add(number, tracked.name, frame, prior, tracked.presence)
        shot.preview(frame, {MATTE if len(known) == 1 else tracked.name: small(tracked.matte)})
        shot.progress(done / (len(frames) * len(known)), f"following {done}/{len(frames) * len(known)}")
    writer.save(shot.folder)
    save_facts(shot.folder, _fitted(shot, known, shape, writer.quality))
    presence = [q for found in writer.quality.values() for q in found.values()]
    return {
        "seed": shot.seed,
        "objects": len(known),
        "prompted_frames": list(prompts),
        "fit_s": round(time.perf_counter() - began, 2),
        "presence": round(float(np.mean(presence)), 4),
    }


def _shape(shot: ShotContext, frame: int) -> tuple[int, int]:
    """Height and width of the working resolution."""
    height, width = shot.display(frame, WORKING_HEIGHT).shape[1:]
    return height, width


def _fitted(
    shot: ShotContext, objects: tuple[str, ...], shape: tuple[int, int], quality: Mapping[str, Mapping[int, float]]
) -> Fitted:
    return Fitted(
        objects=objects,
        height=shape[0],
        width=shape[1],
        full_height=shot.plate_window.height,
        full_width=shot.plate_window.width,
        has_net=False,
        quality=quality,
        key_area=dict.fromkeys(objects, 0.0),
    )


def _painted(shot: ShotContext, objects: Sequence[str], frame: int) -> dict[str, Float]:
    return {n: shot.keys[n][frame] for n in objects if frame in shot.keys.get(n, {})}


def look_at(saliency: Saliency, shot: ShotContext, prompts: Mapping[int, Prompts]) -> Facts:
    """A fit by a saliency model: how it wants its pictures is found out on the keys, and the first frame is shown.

    Raises: RunnerError (prompts, which such a model can't take), Cancelled.
    """
    if prompts:
        raise RunnerError("a saliency model takes no points, boxes or strokes", "give keys, which limit what it finds")
    began = time.perf_counter()
    frames = list(shot.frames)
    first = min((f for keys in shot.keys.values() for f in keys), default=frames[0])
    shot.preview(first, {MATTE: small(saliency.matte(shot.display(first, _SALIENCY_HEIGHT)))})
    samples: dict[int, tuple[Float, Float]] = {}
    for frame in sorted({f for keys in shot.keys.values() for f in keys}):
        rgb = shot.display(frame, WORKING_HEIGHT)
        union = np.max(list(_painted(shot, list(shot.keys), frame).values()), axis=0)
        samples[frame] = rgb, fit_to(union, rgb.shape[1:])
    scores = saliency.choose(samples)
    (shot.folder / _LOOK).write_text(json.dumps({"look": saliency.look}), encoding="utf-8")
    if not shot.keys:
        shape = _shape(shot, first)
        save_facts(shot.folder, _fitted(shot, (SUBJECT,), shape, {}))
    return {
        "look": saliency.look,
        "objects": max(1, len(shot.keys)),
        "key_overlap": round(scores.get(saliency.look, 0.0), 4),
        "look_s": round(time.perf_counter() - began, 2),
    }


def load_look(folder: Path) -> str:
    """Which normalisation a fit chose. Raises: RunnerError."""
    try:
        return str(json.loads((folder / _LOOK).read_text(encoding="utf-8"))["look"])
    except (OSError, ValueError, KeyError) as error:
        raise RunnerError(f"{folder} holds no finished fit of a saliency model", "run the fit step again") from error


def salient(saliency: Saliency, shot: ShotContext, fitted: Fitted, frame: int) -> tuple[list[Float], list[Uncertainty]]:
    """Every object's matte on a frame, at the size that the model was shown, and how sure each is. Depends on that frame, and
    where there are keys on their motion to it."""
    rgb = shot.display(frame, _SALIENCY_HEIGHT)
    found = saliency.matte(rgb, load_look(shot.folder))
    if not fitted.quality:
        return [found], [uncertainty(found, found)]
    priors = [fit_to(p, found.shape) for p in load_priors(shot.folder, fitted.objects, [frame])[frame]]
    # Where motion lost every key there is nothing to be limited by.
    mattes = [gate(found, p) if p.max() > 0.3 else found for p in priors]
    return mattes, [uncertainty(m, p) for m, p in zip(mattes, priors, strict=True)]
