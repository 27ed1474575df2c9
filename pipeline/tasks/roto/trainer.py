"""A studio's own roto net: one net over many finished shots, which then starts the fit of every new one.

It learns what the fit teaches a shot's net, from all shots at once, and with the priors that flow would really have made: so it
answers a shot before any fit, and needs fewer steps to learn one.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import RunnerError
from pipeline.models.facts import NET
from pipeline.models.files import check_sha256
from pipeline.models.inspect import recognise
from pipeline.models.loader import settle_torch, threads
from pipeline.parameters import Parameters
from pipeline.quality.overlap import FrameScore, Score, contour_accuracy, region_similarity
from pipeline.tasks.contract import ModelRef, ShotContext
from pipeline.tasks.roto import fit
from pipeline.tasks.roto.definition import RotoParameters, RotoTrainingParameters
from pipeline.tasks.roto.layers import MATTE
from pipeline.tasks.roto.lessons import SUBJECT, Lesson, Lessons, read_shot, spread, truth_of
from pipeline.tasks.roto.runner import RotoRunner
from pipeline.tasks.roto.sampler import Sample
from pipeline.tasks.training import WEIGHTS, FinishedShot, ScoringContext, TrainingContext

Float = NDArray[np.float32]

IMAGENET_RATES = fit.Rates(decoder=1.5e-3, encoder=2.5e-4)
"""Peaks where a training starts from photographs; one that goes on from a net of a studio takes the fit's for such a start."""
_READING = 0.15
"""Part of a training's progress that reading takes."""
_NOTE_EVERY = 5
_KEYS = (1, 3)
"""How many keys a held-out shot is scored with."""


class RotoTrainer:
    """Learns a studio's mattes. Keeps `pipeline.tasks.training.TaskTrainer`.

    Computes in float32 with PLATEWRIGHT_THREADS threads (1), and one more that makes the next sample meanwhile.
    """

    def train(self, training: TrainingContext, base: ModelRef) -> Mapping[str, float | str | int]:
        """See TaskTrainer.train."""
        parameters = _parameters(training.parameters)
        if not training.shots:
            raise RunnerError("there is no finished shot to learn from", "name approved versions of shots")
        cv2.setNumThreads(threads())
        settle_torch()
        start, imagenet = _start_of(base)
        began = time.perf_counter()
        with TemporaryDirectory(dir=training.folder, prefix="lessons-") as folder:
            shots = _read(training, Path(folder), parameters.frames_a_shot)
            read_s = time.perf_counter() - began
            net = fit.new_net(1, training.seed, start, imagenet=imagenet)
            rates = IMAGENET_RATES if imagenet else fit.STUDIO_RATES
            learner = fit.Learner(net, parameters.iterations, rates)
            _learn(training, learner, Lessons(shots, training.seed), parameters.iterations)
        fit.write_weights(net, training.folder / WEIGHTS)
        return {
            "shots": len(shots),
            "frames": sum(map(len, shots)),
            "iterations": parameters.iterations,
            "seed": training.seed,
            "loss": round(learner.mean_loss(), 5),
            "read_s": round(read_s, 1),
            "learn_s": round(time.perf_counter() - began - read_s, 1),
        }

    def score(self, scoring: ScoringContext, model: ModelRef) -> Mapping[str, float]:
        """See TaskTrainer.score: the runner fits the shot from keys of the truth, and is measured on all frames without one."""
        parameters = _parameters(scoring.parameters)
        frames = _longest_scene(scoring.shot)[: parameters.score_frames]
        visible = [f for f in frames if bool((truth_of(scoring.shot, f) > 0.5).any())]
        if not visible or len(frames) <= max(_KEYS):
            raise RunnerError(
                f"{scoring.shot.name} can't be scored: {len(frames)} frames, {len(visible)} with something in the matte",
                f"hold out a shot of more than {max(_KEYS)} frames whose layer {MATTE!r} isn't empty",
            )
        runner = RotoRunner()
        runner.load(model)
        scores: dict[int, Score] = {}
        for number, count in enumerate(_KEYS):
            keys = {f: truth_of(scoring.shot, f) for f in spread(visible, count)}
            with TemporaryDirectory(dir=scoring.folder, prefix="score-") as folder:
                shot = scoring.shot.as_shot(
                    RotoParameters(iterations=parameters.score_iterations),
                    keys={SUBJECT: keys},
                    folder=Path(folder),
                    seed=scoring.seed,
                    frames=frames,
                )
                watched = _Watched(shot, scoring, number / len(_KEYS), 1 / len(_KEYS))
                scores[count] = _score(runner, cast(ShotContext, watched), scoring.shot)
        runner.unload()
        worst = min(s.frames[s.worst].j for s in scores.values())
        each = {f"jf_{count}": s.jf for count, s in scores.items()}
        return {"jf": float(np.mean(list(each.values()))), **each, "worst": worst}


def _start_of(base: ModelRef) -> tuple[Mapping[str, torch.Tensor], bool]:
    """The weights to start from, and whether they are ImageNet's. Raises: ModelError."""
    if base.path is None:
        from pipeline.models.backbone import load_backbone

        return load_backbone(), True
    facts = recognise(base.path, families=(NET,))
    check_sha256(base.path, base.sha256)
    return fit.read_studio(base.path, facts.base), False


def _read(training: TrainingContext, folder: Path, frames: int) -> list[list[Lesson]]:
    """The lessons of every shot, left in `folder`."""
    shots: list[list[Lesson]] = []
    count = len(training.shots)
    for number, shot in enumerate(training.shots):
        own = folder / str(number)
        own.mkdir()

        def on_frame(fraction: float, number: int = number, name: str = shot.name) -> None:
            training.progress(_READING * (number + fraction) / count, f"reading {name} ({number + 1}/{count})")

        shots.append(read_shot(shot, own, frames, (training.seed, number), on_frame))
    return shots


def _learn(training: TrainingContext, learner: fit.Learner, lessons: Lessons, iterations: int) -> None:
    """All steps that are still to be done, with a state kept now and then. Raises: Cancelled."""
    plan = {"seed": training.seed, "iterations": iterations, "shots": [shot.name for shot in training.shots]}
    first = 0
    found = training.checkpoints.newest()
    if found is not None and found[2].get("plan") == plan:
        first, tensors, facts = found
        learner.restore(tensors, cast(Mapping[str, Any], facts["learner"]))
    with closing(_samples(lessons, first, iterations)) as samples:
        for done, sample in enumerate(samples, first + 1):
            loss = learner.step(sample)
            if training.checkpoints.due():
                tensors, facts = learner.state()
                training.checkpoints.keep(done, tensors, {"plan": plan, "learner": facts})
            if done % _NOTE_EVERY == 0 or done == iterations:
                share = _READING + (1 - _READING) * done / iterations
                training.progress(share, f"learning {done}/{iterations}, loss {loss:.3f}")
    learner.net.eval()


def _samples(lessons: Lessons, first: int, end: int) -> Generator[Sample]:
    """Samples `first` … `end` − 1, each made while the one before it is learned from."""
    with ThreadPoolExecutor(1, thread_name_prefix="samples") as pool:
        ahead = pool.submit(lessons.draw, first) if first < end else None
        for number in range(first + 1, end + 1):
            assert ahead is not None
            sample = ahead.result()
            ahead = pool.submit(lessons.draw, number) if number < end else None
            yield sample


def _longest_scene(shot: FinishedShot) -> list[int]:
    """The frames of the longest scene between two cuts: no key reaches beyond."""
    scenes: list[list[int]] = [[]]
    for frame in shot.frames:
        if frame in shot.cuts:
            scenes.append([])
        scenes[-1].append(frame)
    return max(scenes, key=len)


def _score(runner: RotoRunner, shot: ShotContext, finished: FinishedShot) -> Score:
    """Fit a shot and measure what comes out, a frame at a time."""
    runner.fit(shot)
    found: dict[int, FrameScore] = {}
    for result in runner.run(shot):
        if result.frame not in shot.keys[SUBJECT]:
            truth, matte = truth_of(finished, result.frame), result.layers[MATTE]["A"]
            found[result.frame] = FrameScore(region_similarity(matte, truth), contour_accuracy(matte, truth))
    return Score(found)


class _Watched:
    """A shot whose progress is a part of a score's. Previews of it go nowhere."""

    def __init__(self, shot: ShotContext, scoring: ScoringContext, done: float, share: float) -> None:
        self._shot, self._scoring, self._done, self._share = shot, scoring, done, share
        self._half = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shot, name)

    def progress(self, fraction: float, note: str = "") -> None:
        """The fit counts its own from 0 to 1, and so do the frames after it."""
        if not note:
            self._half = 0.5
        self._scoring.progress(self._done + self._share * (self._half + 0.5 * fraction), note or "measuring")

    def preview(self, frame: int, layers: Mapping[str, Float]) -> None:
        """See ShotContext.preview."""


def _parameters(parameters: Parameters) -> RotoTrainingParameters:
    if not isinstance(parameters, RotoTrainingParameters):
        raise RunnerError(f"a roto training can't work with {type(parameters).__name__}", "give RotoTrainingParameters")
    return parameters
