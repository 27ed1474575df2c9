"""A diffusers folder as painter: each frame redrawn from the plate (SDEdit, Meng et al. 2022), with the studio's LoRA and a ControlNet.

Every frame starts from the same noise, so what stays in place is drawn alike; the blend along the motion does the rest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError, RunnerError
from pipeline.models.diffusers_folder import open_diffusers, set_strength
from pipeline.models.facts import DIFFUSERS
from pipeline.models.inspect import recognise
from pipeline.tasks.contract import ModelRef, ShotContext
from pipeline.tasks.style_transfer.definition import StyleParameters
from pipeline.tasks.style_transfer.edges import drawing
from pipeline.tasks.style_transfer.painter import Made

Float = NDArray[np.float32]

_MULTIPLE = 8
"""Sides that an autoencoder takes are multiples of this."""
_EARLY_LINES = 128
_EARLY_STEPS = 4


class DiffusionModel:
    """A folder in memory: Stable Diffusion or Stable Diffusion XL, for pictures from pictures."""

    def __init__(self, model: ModelRef) -> None:
        """Raises: ModelError (absent, code, pickles, another class; a LoRA or ControlNet for another base)."""
        assert model.path is not None
        lora, controlnet = (_path(model.options.get(name)) for name in ("lora", "controlnet"))
        self._pipe: Any = open_diffusers(
            model.path,
            pipeline_name(model.path, controlled=controlnet is not None),
            sha256=model.sha256,
            lora=lora,
            controlnet=controlnet,
        )
        self._has_lora, self._controlled = lora is not None, controlnet is not None

    def show_early(self, shot: ShotContext, parameters: StyleParameters) -> None:
        """Two small frames with few steps, before anything slow."""
        frames = sorted(shot.available)
        quick = parameters.model_copy(
            update={"model_lines": _EARLY_LINES, "steps": min(parameters.steps, _EARLY_STEPS)}
        )
        painter = DiffusionPainter(shot, quick, self)
        for frame in dict.fromkeys((frames[0], frames[len(frames) // 2])):
            small = np.ascontiguousarray(shot.display(frame, _EARLY_LINES).transpose(1, 2, 0))
            shot.preview(frame, {"picture": np.ascontiguousarray(painter.redraw(small).transpose(2, 0, 1))})

    def redraw(self, picture: Float, parameters: StyleParameters, seed: int) -> Float:
        """(height, width, 3) in model space, sides multiples of 8, drawn anew, 0 … 1. Raises: RunnerError."""
        import torch

        if self._has_lora:
            set_strength(self._pipe, parameters.lora_strength)
        more: dict[str, Any] = {}
        if self._controlled:
            more["control_image"] = drawing(picture, parameters.control_lines)[None]
            more["controlnet_conditioning_scale"] = parameters.control_strength
        with torch.inference_mode():
            found = self._pipe(
                prompt=parameters.prompt,
                negative_prompt=parameters.negative_prompt or None,
                image=np.clip(picture, 0, 1)[None],
                strength=max(parameters.change, 1 / parameters.steps),
                num_inference_steps=parameters.steps,
                guidance_scale=parameters.guidance,
                generator=torch.Generator("cpu").manual_seed(seed),
                output_type="np",
                **more,
            ).images[0]
        out = np.asarray(found, np.float32)
        if out.shape != picture.shape or not np.isfinite(out).all():
            raise RunnerError("the model gave no picture that can be used", "try another change, seed or LoRA strength")
        return out


class DiffusionPainter:
    """Frames of one shot, drawn by a model."""

    def __init__(self, shot: ShotContext, parameters: StyleParameters, model: DiffusionModel) -> None:
        self._shot, self._parameters, self._model = shot, parameters, model

    def paint(self, frame: int, plate: Float) -> Made:
        """At the plate's full size: what is finer than the model's lines stays the plate's, as far as the model keeps to it."""
        shown = np.ascontiguousarray(np.clip(self._shot.display(frame), 0, 1).transpose(1, 2, 0))
        picture = self.redraw(shown)
        return Made(picture, np.ones(plate.shape[:2], np.float32), 0.0, -1)

    def redraw(self, shown: Float) -> Float:
        """(height, width, 3) in model space, any size; without change it comes back as it is."""
        parameters = self._parameters
        if parameters.change == 0:
            return shown
        height, width = shown.shape[:2]
        lines = min(parameters.model_lines, height)
        size = (_multiple(width * lines / height), _multiple(lines))
        small = np.asarray(cv2.resize(shown, size, interpolation=cv2.INTER_AREA), np.float32)
        drawn = self._model.redraw(small, parameters, self._shot.seed)
        fine = shown - cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
        large = cv2.resize(drawn, (width, height), interpolation=cv2.INTER_CUBIC)
        return np.asarray(np.clip(large + np.float32(1 - parameters.change) * fine, 0, 1), np.float32)


def pipeline_name(path: Path, *, controlled: bool) -> str:
    """The pipeline that opens the folder for pictures from pictures. Raises: ModelError (a folder that none does)."""
    facts = recognise(path, families=(DIFFUSERS,))
    found = facts.details.get("pipeline", "")
    if not found.startswith("StableDiffusion") or found.startswith("StableDiffusion3") or "Inpaint" in found:
        raise ModelError(
            f"{path} is a {found}, which style transfer can't draw with",
            "name a folder of Stable Diffusion or Stable Diffusion XL, not an inpainting one",
        )
    family = "StableDiffusionXL" if found.startswith("StableDiffusionXL") else "StableDiffusion"
    return f"{family}{'ControlNet' if controlled else ''}Img2ImgPipeline"


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def _multiple(length: float) -> int:
    return max(_MULTIPLE, round(length / _MULTIPLE) * _MULTIPLE)
