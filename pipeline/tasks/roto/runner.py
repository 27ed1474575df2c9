"""Roto's runner: flow first, then a net of the shot's own, then a matte for each frame."""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RunnerError
from pipeline.models.facts import SALIENCY_ONNX, SAM2
from pipeline.models.files import check_sha256
from pipeline.models.inspect import recognise
from pipeline.models.loader import settle_torch, threads
from pipeline.motion import FlowEstimator, FlowPair, Warp
from pipeline.parameters import Parameters
from pipeline.tasks.contract import FrameResult, ModelRef, ShotContext
from pipeline.tasks.roto.agreement import Agreement, of_shot
from pipeline.tasks.roto.clean import drop_islands
from pipeline.tasks.roto.definition import ROTO, RotoParameters
from pipeline.tasks.roto.fitted import (
    NET,
    Fitted,
    PriorWriter,
    load_facts,
    load_priors,
    save_facts,
    save_flows,
)
from pipeline.tasks.roto.flow import Forward, credit_of, cross_check, from_bytes, propagate
from pipeline.tasks.roto.interactive import keyed_by
from pipeline.tasks.roto.layers import MATTE, WORKING_HEIGHT, fit_to, layers_of, small
from pipeline.tasks.roto.prompts import asked_of
from pipeline.tasks.roto.refine import enlarge, feather, follow_edges
from pipeline.tasks.roto.saliency import Saliency
from pipeline.tasks.roto.sampler import BRIGHTEST, KeyFrame, Sampler
from pipeline.tasks.roto.uncertainty import Uncertainty, uncertainty
from pipeline.tasks.roto.zero_shot import follow, look_at, salient

if TYPE_CHECKING:
    import torch

Float = NDArray[np.float32]

_FLOW_SHARE = 0.15
"""Part of a fit's progress that flow takes when a net follows."""
_PREVIEW_EVERY = 4
"""While frames arrive, so many are shown at once and then one in so many, by the forward pass; the blended pass shows all."""


class RotoRunner:
    """Keyframe mattes to a matte on every frame. Keeps `pipeline.tasks.contract.TaskRunner`.

    One object gives the layer `matte`; several give a layer each, and `matte` is their union.
    Computes in float32 with PLATEWRIGHT_THREADS threads (1): the same seed and machine give the same bits.
    """

    def __init__(self) -> None:
        self._start: dict[str, torch.Tensor] | None = None
        self._imagenet = True
        self._sam2: Any = None
        self._saliency: Saliency | None = None

    def load(self, model: ModelRef) -> None:
        """The start of every fit: ImageNet's weights, or a studio's own net where `model` names a file. A SAM 2 folder or an
        ONNX saliency model does the work in the net's place.

        Raises: ModelError (absent, changed, of no family that roto takes).
        """
        cv2.setNumThreads(threads())
        settle_torch()
        self.unload()
        self._imagenet = model.path is None
        if model.path is None:
            from pipeline.models.backbone import load_backbone

            self._start = load_backbone()
            return
        facts = recognise(model.path, families=ROTO.families)
        if facts.family == SAM2:
            from pipeline.models.transformers_folder import open_transformers

            self._sam2 = open_transformers(model.path, "Sam2VideoModel", sha256=model.sha256)
        elif facts.family == SALIENCY_ONNX:
            from pipeline.models.onnx import open_onnx

            self._saliency = Saliency(open_onnx(model.path, sha256=model.sha256))
        else:
            check_sha256(model.path, model.sha256)
            from pipeline.tasks.roto.fit import read_studio

            self._start = read_studio(model.path, facts.base)

    def unload(self) -> None:
        """Give the weights back."""
        self._start = self._sam2 = self._saliency = None

    def fit(self, shot: ShotContext) -> Mapping[str, float | str | int | list[int]]:
        """Flow over the whole shot, then the net. Leaves `fitted`'s files in `shot.folder`."""
        parameters = _parameters(shot)
        began = time.perf_counter()
        asked = asked_of(shot, parameters)
        if self._sam2 is not None:
            return follow(self._sam2, shot, asked)
        seen = {} if self._saliency is None else look_at(self._saliency, shot, asked)
        if self._saliency is not None and not shot.keys:
            return seen
        credit: Mapping[str, float] = {}
        if asked:
            shot, credit = keyed_by(shot, asked, self._start)
        iterations = 0 if self._saliency is not None else parameters.iterations
        has_net = iterations > 0 or self._knows_mattes()
        objects = _objects(shot)
        first_key = min(f for name in objects for f in shot.keys[name])
        shot.preview(first_key, _key_preview(shot, objects, first_key))
        reading = _Reading(shot, objects)
        reading.read(_FLOW_SHARE if iterations else 1.0)
        writer = reading.spread(objects)
        flow_s = time.perf_counter() - began
        loss = self._learn(shot, objects, reading, iterations) if has_net else 0.0
        first = next(iter(shot.keys[objects[0]].values()))
        areas = {name: min(float((m > 0.5).mean()) for m in reading.keys[name].values()) for name in objects}
        height, width = reading.shape
        fitted = Fitted(
            objects=objects,
            height=height,
            width=width,
            full_height=first.shape[0],
            full_width=first.shape[1],
            has_net=has_net,
            quality=writer.quality,
            key_area=areas,
            credit=credit,
            bfloat16=has_net and _fast_bfloat16(),
        )
        writer.save(shot.folder)
        if has_net:
            save_flows(shot.folder, reading.flows())
        save_facts(shot.folder, fitted)
        quality = [q for frames in writer.quality.values() for q in frames.values()]
        return {
            "iterations": iterations,
            "seed": shot.seed,
            "objects": len(objects),
            "working_width": width,
            "working_height": height,
            "flow_s": round(flow_s, 2),
            "fit_s": round(time.perf_counter() - began, 2),
            "loss": round(loss, 5),
            "flow_quality": round(float(np.mean(quality)), 4),
            **seen,
            **(
                {"prompted_frames": list(asked), "prompt_credit": round(min(credit.values(), default=1.0), 4)}
                if asked
                else {}
            ),
        }

    def _knows_mattes(self) -> bool:
        """Whether what was loaded answers without a fit: a studio's own net does."""
        return self._start is not None and not self._imagenet

    def _learn(self, shot: ShotContext, objects: Sequence[str], reading: _Reading, iterations: int) -> float:
        """Train the shot's net and write it; without iterations a studio's own net is it, as it is. Returns the final loss."""
        from pipeline.tasks.roto import fit

        if self._start is None:
            raise RunnerError("the model was not loaded", "call load() before fit()")
        if not iterations:
            fit.write_weights(fit.ready_made(self._start, len(objects)), shot.folder / NET)
            return 0.0
        sampler = Sampler(reading.key_frames(), objects, shot.seed, between=reading.between())
        net = fit.new_net(len(objects), shot.seed, self._start, imagenet=self._imagenet)
        rates = fit.IMAGENET_RATES if self._imagenet else fit.STUDIO_RATES

        def step(done: int, loss: float) -> None:
            if done % 5 == 0 or done == iterations:
                share = _FLOW_SHARE + (1 - _FLOW_SHARE) * done / iterations
                shot.progress(share, f"fit {done}/{iterations}, loss {loss:.3f}")

        loss = fit.train(net, sampler, iterations, rates, step)
        fit.write_weights(net, shot.folder / NET)
        return loss

    def run(self, shot: ShotContext) -> Iterator[FrameResult]:
        """A result for each frame. A frame's depends on nothing but the fit, that frame and the one on either side, so chunks join
        without seams."""
        parameters = _parameters(shot)
        fitted = load_facts(shot.folder)
        free = [f for f in shot.frames if any(f not in shot.keys.get(name, {}) for name in fitted.objects)]
        net = of_shot(shot, fitted) if fitted.has_net and free else None
        shot.prefetch(free, WORKING_HEIGHT)
        for number, frame in enumerate(shot.frames):
            mattes: dict[str, Float] = {}
            judged: dict[str, Uncertainty] = {}
            if frame in free:
                mattes, judged = _unpainted(shot, fitted, self._saliency or net, frame, parameters)
            for name in fitted.objects:
                if frame in shot.keys.get(name, {}):
                    mattes[name] = shot.keys[name][frame]
                    judged.pop(name, None)
            layers = {
                layer: {"A": _output(matte, shot.at(frame))}
                for layer, matte in layers_of({n: mattes[n] for n in fitted.objects}).items()
            }
            yield FrameResult(frame=frame, layers=layers, quality=_quality(list(judged.values()), mattes))
            shot.progress((number + 1) / len(shot.frames))


class _Reading:
    """A fit's walk over the shot: frames in, flows and first previews out. Indices count the shot's frames from 0."""

    def __init__(self, shot: ShotContext, objects: Sequence[str]) -> None:
        self._shot = shot
        self._frames = list(shot.frames)
        self._index = {frame: i for i, frame in enumerate(self._frames)}
        self._breaks = [bisect_left(self._frames, cut) for cut in sorted(shot.cuts)]
        self._objects = objects
        self._pairs: list[FlowPair | None] = []
        self.shape = (0, 0)
        self.keys: dict[str, dict[int, Float]] = {}
        self.pictures: dict[int, Float] = {}
        self.moved: dict[int, dict[str, tuple[Float, float]]] = {}

    def read(self, share: float) -> None:
        """Read every frame once; `share` is the part of the fit's progress that this and `spread` take."""
        shot, flow = self._shot, FlowEstimator()
        shot.prefetch(self._frames, WORKING_HEIGHT)
        painted = {self._index[f] for name in self._objects for f in shot.keys[name]}
        forward: Forward | None = None
        before: NDArray[np.uint8] | None = None
        for i, frame in enumerate(self._frames):
            rgb = shot.display(frame, WORKING_HEIGHT)
            if forward is None:
                self.shape = (rgb.shape[1], rgb.shape[2])
                self.keys = {
                    n: {self._index[f]: fit_to(m, self.shape) for f, m in shot.keys[n].items()} for n in self._objects
                }
                forward = Forward(self.keys)
            if i in painted:
                self.pictures[i] = np.ascontiguousarray(rgb.transpose(1, 2, 0))
                shot.preview(frame, _key_preview(shot, self._objects, frame))
            grey = flow.prepare(rgb)
            pair = None if before is None or i in self._breaks else flow.pair(before, grey)
            if i > 0:
                self._pairs.append(pair)
            warp = Warp(pair.backward, pair.forward, self.shape) if pair else None
            mattes = forward.step(i, warp)
            if mattes and (i < _PREVIEW_EVERY or i % _PREVIEW_EVERY == 0) and i not in painted:
                shot.preview(frame, {layer: small(m) for layer, m in layers_of(mattes).items()})
            before = grey
            shot.progress(share * 0.7 * (i + 1) / len(self._frames), f"motion {i + 1}/{len(self._frames)}")

    def spread(self, objects: Sequence[str]) -> PriorWriter:
        """Every object's matte on every frame, and in `moved` what each key would be without itself."""
        writer = PriorWriter()
        for number, name in enumerate(objects):
            keys = self.keys[name]
            checks = cross_check(keys, self._pairs, self._breaks, self.shape)
            credit = credit_of(keys, checks)
            for i, check in checks.items():
                self.moved.setdefault(i, {})[name] = from_bytes(check.matte), credit.quality(check.trust)
            for i, prior in propagate(keys, self._pairs, self._breaks, self.shape):
                frame = self._frames[i]
                writer.add(number, name, frame, prior, credit.quality(prior.trust))
                if i not in keys:
                    layer = MATTE if len(objects) == 1 else name
                    self._shot.preview(frame, {layer: small(from_bytes(prior.matte))})
        return writer

    def key_frames(self) -> list[KeyFrame]:
        """What there is to learn from."""
        return [
            KeyFrame(rgb, {name: keys[i] for name, keys in self.keys.items() if i in keys}, self.moved.get(i, {}))
            for i, rgb in self.pictures.items()
        ]

    def flows(self) -> dict[int, FlowPair]:
        """Frame → flow between it and the next, where no cut parts them."""
        return {frame: pair for frame, pair in zip(self._frames, self._pairs, strict=False) if pair is not None}

    def between(self) -> float:
        """The part of the frames, over all objects, that lie between two keys of an object in one shot."""
        scenes = [bisect_right(self._breaks, i) for i in range(len(self._frames))]
        inner = 0
        for keys in self.keys.values():
            spans = {scenes[k]: [j for j in keys if scenes[j] == scenes[k]] for k in keys}
            inner += sum(max(span) - min(span) + 1 for span in spans.values())
        return inner / (len(self._frames) * len(self.keys))


def _fast_bfloat16() -> bool:
    from pipeline.tasks.roto.fused import has_bfloat16

    return has_bfloat16()


def _unpainted(
    shot: ShotContext, fitted: Fitted, net: Agreement | Saliency | None, frame: int, parameters: RotoParameters
) -> tuple[dict[str, Float], dict[str, Uncertainty]]:
    """Every object's matte on a frame, at the plate's size, and how sure each is."""
    if isinstance(net, Saliency):
        found, judged = salient(net, shot, fitted, frame)
    else:
        found, judged = _found(shot, fitted, net, frame, parameters)
    full = [enlarge(matte, fitted.full_height, fitted.full_width) for matte in found]
    if parameters.edge_refine:
        guide = np.clip(shot.display(frame), 0, BRIGHTEST)
        full = [follow_edges(matte, guide) for matte in full]
    judged = [u.credited(fitted.credit.get(name, 1.0)) for name, u in zip(fitted.objects, judged, strict=True)]
    return dict(zip(fitted.objects, full, strict=True)), dict(zip(fitted.objects, judged, strict=True))


def _found(
    shot: ShotContext, fitted: Fitted, net: Agreement | None, frame: int, parameters: RotoParameters
) -> tuple[list[Float], list[Uncertainty]]:
    """The same at working resolution, by the shot's net, or by what the fit left for the frame."""
    priors = load_priors(shot.folder, fitted.objects, [frame])[frame]
    if net is None:
        quality = [fitted.quality[name][frame] for name in fitted.objects]
        found = priors
        judged = [_of_flow(prior, q) for prior, q in zip(priors, quality, strict=True)]
    else:
        found = net.at(frame)
        if parameters.islands:
            found = np.stack([drop_islands(matte, prior) for matte, prior in zip(found, priors, strict=True)])
        judged = [uncertainty(matte, prior) for matte, prior in zip(found, priors, strict=True)]
    return list(found), judged


def _of_flow(prior: Float, quality: float) -> Uncertainty:
    """Without a net there is one witness only: how well flow does between the keys."""
    return Uncertainty(1 - quality, 0.0, float((prior > 0.5).mean()))


def _quality(judged: Sequence[Uncertainty], mattes: Mapping[str, Float]) -> dict[str, float]:
    """Of the frame: the least sure object speaks for it. `is_key` when nothing had to be made."""
    union = np.max([m > 0.5 for m in mattes.values()], axis=0)
    return {
        "confidence": 1 - max((u.worst for u in judged), default=0.0),
        "entropy": max((u.entropy for u in judged), default=0.0),
        "disagreement": max((u.disagreement for u in judged), default=0.0),
        "coverage": float(union.mean()),
        "is_key": 0.0 if judged else 1.0,
    }


def _output(matte: Float, parameters: Parameters) -> Float:
    """The matte as asked for on its frame. With the defaults it passes untouched, bit for bit."""
    assert isinstance(parameters, RotoParameters)
    matte = feather(matte, parameters.feather)
    return 1 - matte if parameters.invert else matte


def _key_preview(shot: ShotContext, objects: Sequence[str], frame: int) -> dict[str, Float]:
    mattes = {name: shot.keys[name][frame] for name in objects if frame in shot.keys[name]}
    return {layer: small(matte) for layer, matte in layers_of(mattes).items()}


def _objects(shot: ShotContext) -> tuple[str, ...]:
    """The shot's objects by name. Raises: RunnerError (none, or one without a key in the shot)."""
    frames = set(shot.frames)
    for name, keys in shot.keys.items():
        if not keys:
            raise RunnerError(f"object {name!r} has no key matte", "paint it on one frame at least")
        if outside := sorted(set(keys) - frames):
            raise RunnerError(
                f"object {name!r} has a key on frame {outside[0]}, outside the shot", "move the key into the range"
            )
        if name == MATTE and len(shot.keys) > 1:
            raise RunnerError(
                f"an object can't be called {MATTE!r} beside others: that layer is their union", "rename it"
            )
    if not shot.keys:
        raise RunnerError("there are no key mattes", "give one on one frame at least")
    return tuple(sorted(shot.keys))


def _parameters(shot: ShotContext) -> RotoParameters:
    if not isinstance(shot.parameters, RotoParameters):
        raise RunnerError(f"roto can't work with {type(shot.parameters).__name__}", "give RotoParameters")
    return shot.parameters
