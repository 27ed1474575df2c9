"""Learns a studio's look as a LoRA (Hu et al. 2022) on a diffusers base, and tells how well a base with or without one knows it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch

from pipeline.errors import ModelError, RunnerError
from pipeline.models.files import sha256_of
from pipeline.tasks.contract import ModelRef
from pipeline.tasks.style_transfer.definition import StyleTrainingParameters
from pipeline.tasks.style_transfer.denoiser import Denoiser, Latent
from pipeline.tasks.style_transfer.lora import LearningLora, diverged, trained_prompt
from pipeline.tasks.style_transfer.pictures import crops, encode_shots, spread
from pipeline.tasks.training import WEIGHTS, ScoringContext, TrainingContext

_ENCODING = 0.1
"""Part of the progress that reading and encoding the pictures is."""
_SCORED_STEPS = 8
_SCORING_SEED = 20_011


class LoraTrainer:
    """Makes a LoRA of approved style versions. Keeps `pipeline.tasks.training.TaskTrainer`.

    Computes with PLATEWRIGHT_THREADS threads (1). What was learned is the same bit for bit, interrupted or not.
    """

    def train(self, training: TrainingContext, base: ModelRef) -> Mapping[str, float | str | int]:
        """See TaskTrainer.train. `base`: a folder of Stable Diffusion or Stable Diffusion XL."""
        parameters = _parameters(training.parameters)
        path = _folder_of(base)
        if "lora" in base.options:
            raise ModelError("a look is learned from a base alone, not from another LoRA", "leave the LoRA out")
        if not training.shots:
            raise RunnerError("there are no shots to learn from", "name approved versions of style transfer")
        seed = training.seed if parameters.seed is None else parameters.seed
        alpha = float(parameters.rank if parameters.alpha is None else parameters.alpha)
        denoiser = Denoiser(path, parameters.prompt, sha256=base.sha256)
        lora = LearningLora(
            denoiser.unet,
            rank=parameters.rank,
            alpha=alpha,
            learning_rate=parameters.learning_rate,
            iterations=parameters.iterations,
            loss_scale=denoiser.loss_scale,
            seed=seed,
        )
        pictures = encode_shots(
            training.shots,
            denoiser,
            lines=parameters.lines,
            frames_a_shot=parameters.frames_a_shot,
            flip=parameters.flip,
            seed=seed,
            on_frame=lambda done, of: training.progress(_ENCODING * done / of, f"encoding picture {done} of {of}"),
        )
        facts: dict[str, float | str | int] = {
            "base_sha256": base.sha256 or sha256_of(path),
            "prompt": parameters.prompt,
            "rank": parameters.rank,
            "alpha": alpha,
            "iterations": parameters.iterations,
            "lines": parameters.lines,
            "shots": len(training.shots),
            "pictures": len(pictures),
            "seed": seed,
        }
        loss = _learn(training, parameters, denoiser, lora, pictures, facts)
        lora.save(training.folder / WEIGHTS, facts)
        return {**facts, "loss": loss}

    def score(self, scoring: ScoringContext, model: ModelRef) -> Mapping[str, float]:
        """See TaskTrainer.score. `model`: a base's folder, with `lora` among its options or without.

        Frames of the shot at the size that the base was made for, or their own where that is less; eight amounts of noise; the same
        noise for every model, whatever the seed. A LoRA that was learned here is asked with its own prompt, anything else with
        `score_prompt`. Only models on one base can be compared: another's codes, and so its errors, are of another size.
        """
        parameters = _parameters(scoring.parameters)
        lora = Path(model.options["lora"]) if model.options.get("lora") else None
        prompt = (trained_prompt(lora) if lora is not None and lora.is_file() else None) or parameters.score_prompt
        denoiser = Denoiser(_folder_of(model), prompt, sha256=model.sha256, lora=lora)
        pictures = _scored_pictures(scoring, denoiser, parameters.score_frames)
        fine, coarse = list[float](), list[float]()
        generator = torch.Generator().manual_seed(_SCORING_SEED)
        for number, picture in enumerate(pictures):
            for turn in range(_SCORED_STEPS):
                step = int((turn + 0.5) * denoiser.steps / _SCORED_STEPS)
                noise = torch.randn(picture.mean.shape, generator=generator)
                with torch.inference_mode():
                    loss = float(denoiser.loss(picture, picture.mean, noise, step))
                if not math.isfinite(loss):
                    raise RunnerError(
                        f"the model gives no numbers for {scoring.shot.name}", "train it again, more slowly"
                    )
                (fine if turn < _SCORED_STEPS // 2 else coarse).append(loss)
            scoring.progress((number + 1) / len(pictures), f"picture {number + 1} of {len(pictures)}")
        return {
            "denoising_loss": math.fsum(fine + coarse) / len(fine + coarse),
            "loss_fine": math.fsum(fine) / len(fine),
            "loss_coarse": math.fsum(coarse) / len(coarse),
        }


def _learn(
    training: TrainingContext,
    parameters: StyleTrainingParameters,
    denoiser: Denoiser,
    lora: LearningLora,
    pictures: list[Latent],
    facts: Mapping[str, float | str | int],
) -> float:
    """All steps that are left. Returns the mean loss of the last tenth."""
    of = parameters.iterations
    tail = max(1, of // 10)
    same = {**facts, "parameters": parameters.model_dump(mode="json")}
    losses: list[float] = []
    newest = training.checkpoints.newest()
    if newest is not None and newest[2].get("training") == same:
        done, tensors, kept = newest
        lora.restore(done, tensors)
        held = kept["losses"]
        losses = [float(loss) for loss in held] if isinstance(held, list) else []
    while lora.done < of:
        losses = [*losses, _one_step(parameters, denoiser, lora, pictures)][-tail:]
        if training.checkpoints.due() and lora.done < of:
            training.checkpoints.keep(lora.done, lora.state(), {"training": same, "losses": losses})
        fraction = _ENCODING + (1 - _ENCODING) * lora.done / of
        training.progress(fraction, f"step {lora.done} of {of}, loss {losses[-1]:.4f}")
    return math.fsum(losses) / len(losses)


def _one_step(
    parameters: StyleTrainingParameters, denoiser: Denoiser, lora: LearningLora, pictures: list[Latent]
) -> float:
    """One step of the optimiser. Returns the mean loss of its pictures. Raises: RunnerError (no number)."""
    total = 0.0
    for _ in range(parameters.batch):
        picture = pictures[_below(len(pictures), lora.generator)]
        step = _below(denoiser.steps, lora.generator)
        clean = picture.draw(lora.generator)
        noise = torch.randn(clean.shape, generator=lora.generator)
        loss = denoiser.loss(picture, clean, noise, step, snr_gamma=parameters.snr_gamma)
        total += float(loss.detach()) / parameters.batch
        if not math.isfinite(total):
            raise diverged(lora.done + 1, "loss", total)
        (loss * (denoiser.loss_scale / parameters.batch)).backward()  # type: ignore[no-untyped-call]  # torch declares it untyped
    lora.step()
    return total


def _scored_pictures(scoring: ScoringContext, denoiser: Denoiser, count: int) -> list[Latent]:
    """Raises: RunnerError (no frames, too small), PlateError."""
    frames = spread(scoring.shot.frames, count)
    if not frames:
        raise RunnerError(f"{scoring.shot.name} has no frames to score on", "hold another shot out")
    lines = min(denoiser.native_lines, scoring.shot.display(frames[0]).shape[1])
    return [
        denoiser.encode(crop, framing)
        for frame in frames
        for crop, framing in crops(scoring.shot, frame, lines, denoiser.factor, flip=False)
    ]


def _below(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (1,), generator=generator))


def _folder_of(model: ModelRef) -> Path:
    """Raises: ModelError (none)."""
    if model.path is None:
        raise ModelError("a look is learned on a diffusers folder, and none was named", "name the base")
    return model.path


def _parameters(parameters: object) -> StyleTrainingParameters:
    if not isinstance(parameters, StyleTrainingParameters):
        raise RunnerError(
            f"the trainer was given {type(parameters).__name__}", "use the task's own training parameters"
        )
    return parameters
