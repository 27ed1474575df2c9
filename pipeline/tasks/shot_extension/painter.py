"""diffusers models by path: an inpainting one paints what no frame shows, a video-to-video one repaints frames that motion made.

Both work once, in the fit. What an inpainting model paints lies on the canvases and moves with the camera from there, so it doesn't
flicker; what a video model changes is kept as a small difference to the frames that motion made, which keep their own detail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError, RunnerError
from pipeline.models.diffusers_folder import open_diffusers
from pipeline.models.inspect import recognise
from pipeline.tasks.contract import ModelRef
from pipeline.tasks.shot_extension.definition import ExtensionParameters
from pipeline.tasks.shot_extension.smooth import push_pull

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]

INPAINT: Mapping[str, str] = {
    "StableDiffusionPipeline": "StableDiffusionInpaintPipeline",
    "StableDiffusionImg2ImgPipeline": "StableDiffusionInpaintPipeline",
    "StableDiffusionInpaintPipeline": "StableDiffusionInpaintPipeline",
    "StableDiffusionXLPipeline": "StableDiffusionXLInpaintPipeline",
    "StableDiffusionXLImg2ImgPipeline": "StableDiffusionXLInpaintPipeline",
    "StableDiffusionXLInpaintPipeline": "StableDiffusionXLInpaintPipeline",
    "StableDiffusion3Pipeline": "StableDiffusion3InpaintPipeline",
    "StableDiffusion3InpaintPipeline": "StableDiffusion3InpaintPipeline",
    "FluxFillPipeline": "FluxFillPipeline",
    "FluxInpaintPipeline": "FluxInpaintPipeline",
}
"""What a folder says it is, and what it is opened as to paint one picture."""
VIDEO: Mapping[str, str] = {
    "AnimateDiffPipeline": "AnimateDiffVideoToVideoPipeline",
    "AnimateDiffVideoToVideoPipeline": "AnimateDiffVideoToVideoPipeline",
    "CogVideoXVideoToVideoPipeline": "CogVideoXVideoToVideoPipeline",
    "WanVideoToVideoPipeline": "WanVideoToVideoPipeline",
}
"""The same for clips."""
LINES = 512
"""Lines of the canvases that a model paints on, and of the clips."""
_STEP = 16
"""Sides are whole multiples of this: what the models' encoders divide by."""
LONGEST_CLIP = 16
"""Frames that a video model is given at once: what most were trained on."""


class Painter:
    """A model in memory. `kind`: `inpaint` or `video`. Pictures are (height, width, 3) in model space; what lies outside 0 … 1 is clipped
    for the model, and comes back as it was wherever the model didn't paint."""

    def __init__(self, model: ModelRef) -> None:
        """Raises: ModelError (no folder of a known class, changed, damaged)."""
        assert model.path is not None
        name = recognise(model.path, families=("diffusers",)).details["pipeline"]
        if name in INPAINT:
            self.kind, opened = "inpaint", INPAINT[name]
        elif name in VIDEO:
            self.kind, opened = "video", VIDEO[name]
        else:
            known = ", ".join(sorted({*INPAINT.values(), *VIDEO.values()}))
            raise ModelError(f"{model.path} is a {name}, which extends no shot", f"give a folder of: {known}")
        self._pipe = open_diffusers(model.path, opened, sha256=model.sha256)

    def paint(self, picture: Float, known: Mask, parameters: ExtensionParameters, *, seed: int) -> Float:
        """`picture` with what lies outside `known` (height, width) painted; known pixels stay as they are, bit for bit."""
        height, width = known.shape
        size = _size(height, width, LINES)
        start = push_pull(picture, known.astype(np.float32))
        image = _pil(cv2.resize(np.clip(start, 0, 1), size, interpolation=_towards(size[0], width)))
        hole = cv2.resize((~known).astype(np.float32), size, interpolation=cv2.INTER_LINEAR) > 0.01
        arguments = self._arguments(parameters, seed) | {
            "image": image,
            "mask_image": _pil(np.dstack([hole.astype(np.float32)] * 3)).convert("L"),
            "width": size[0],
            "height": size[1],
            "strength": 1.0,
        }
        (made,) = self._call(arguments, "images")
        back = cv2.resize(made, (width, height), interpolation=_towards(width, size[0]))
        return np.where(known[..., None], picture, back).astype(np.float32)

    def repaint(self, clip: Sequence[Float], parameters: ExtensionParameters, *, seed: int) -> list[Float]:
        """A clip's frames as the model sees them: (height, width, 3) each, of the clip's own size, what it changed as a difference."""
        height, width = clip[0].shape[:2]
        size = _size(height, width, LINES)
        frames = [cv2.resize(np.clip(one, 0, 1), size, interpolation=_towards(size[0], width)) for one in clip]
        arguments = self._arguments(parameters, seed) | {
            "video": [_pil(one) for one in frames],
            "width": size[0],
            "height": size[1],
            "strength": parameters.strength,
        }
        made = self._call(arguments, "frames")
        if len(made) != len(clip):
            raise RunnerError(
                f"the video model gave {len(made)} frames for {len(clip)}",
                "extend by fewer frames, or give another model",
            )
        return [
            np.asarray(cv2.resize(b - a, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
            for a, b in zip(frames, made, strict=True)
        ]

    def _arguments(self, parameters: ExtensionParameters, seed: int) -> dict[str, Any]:
        import torch

        return {
            "prompt": parameters.prompt,
            "negative_prompt": parameters.negative_prompt or None,
            "num_inference_steps": parameters.steps,
            "guidance_scale": parameters.guidance,
            "generator": torch.Generator("cpu").manual_seed(seed),
            "output_type": "np",
        }

    def _call(self, arguments: dict[str, Any], result: str) -> list[Float]:
        import inspect

        takes = inspect.signature(self._pipe.__call__).parameters
        out = self._pipe(**{name: value for name, value in arguments.items() if name in takes})
        made = np.asarray(getattr(out, result), np.float32)
        frames = made[0] if made.ndim == 5 else made  # a batch of clips, or a batch of pictures
        if not np.isfinite(frames).all():
            raise RunnerError("the model gave pixels that are no numbers", "try another seed, or fewer steps")
        return list(frames)


def _size(height: int, width: int, lines: int) -> tuple[int, int]:
    """(width, height) near the picture's shape, of at most about so many lines, in whole steps."""
    scale = min(1.0, lines / min(height, width))
    return max(_STEP, round(width * scale / _STEP) * _STEP), max(_STEP, round(height * scale / _STEP) * _STEP)


def _towards(new: int, old: int) -> int:
    return cv2.INTER_AREA if new < old else cv2.INTER_LINEAR


def _pil(picture: Float) -> Any:
    from PIL import Image

    return Image.fromarray((np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8))
