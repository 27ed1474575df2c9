"""A diffusers base as what it is while it learns: an autoencoder, a prompt's encoding, a noise schedule and a UNet.

The loss is that of Ho et al. 2020 on noise, or of Salimans & Ho 2022 on velocity, as the folder's scheduler says; steps may
be weighted by their signal-to-noise ratio (min-SNR: Hang et al. 2023).
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import ModelError, RunnerError
from pipeline.models.diffusers_folder import open_diffusers
from pipeline.models.folder import read_config, read_weights_header
from pipeline.tasks.style_transfer.diffusion import pipeline_name

Float = NDArray[np.float32]

_HALVES = {"F16": torch.float16, "BF16": torch.bfloat16}
_PREDICTIONS = ("epsilon", "v_prediction")
_LEAST_SNR = 1e-8
"""A schedule may end in nothing but noise."""


@dataclass(frozen=True, slots=True)
class Framing:
    """What Stable Diffusion XL is told of a crop, in pixels: the whole picture's size, where the crop begins, its own size."""

    height: int
    width: int
    left: int
    side: tuple[int, int]

    def numbers(self) -> list[int]:
        """In the order that the model wants them."""
        return [self.height, self.width, 0, self.left, *self.side]


@dataclass(frozen=True, slots=True)
class Latent:
    """A crop as the autoencoder knows it: mean and deviation (1, channels, height / factor, width / factor), on the CPU."""

    mean: Tensor
    deviation: Tensor
    framing: Framing

    @property
    def size(self) -> int:
        """Bytes."""
        return 2 * self.mean.numel() * self.mean.element_size()

    def draw(self, generator: torch.Generator) -> Tensor:
        """One of the codes that stand for the crop."""
        return self.mean + self.deviation * torch.randn(self.mean.shape, generator=generator)


class Denoiser:
    """Stable Diffusion or Stable Diffusion XL, whose weights are frozen, asked with one prompt.

    On the CPU all of it is float32. On a GPU the UNet keeps the precision of its file; the rest is float32 there too.
    All chance comes from generators on the CPU, so a picture meets the same noise wherever it is computed.
    """

    def __init__(self, path: Path, prompt: str, *, sha256: str = "", lora: Path | None = None) -> None:
        """Raises: ModelError (absent, code, pickles, another class or hash, a LoRA for another base, a refiner)."""
        name = pipeline_name(path, controlled=False)
        self.device, self._dtype = _computing(path)
        pipe = open_diffusers(path, name, sha256=sha256, lora=lora)
        if pipe.text_encoder is None or pipe.vae is None or getattr(pipe.config, "requires_aesthetics_score", False):
            raise ModelError(f"{path} has no text encoder or autoencoder of its own: it is a refiner", "name its base")
        self._has_framing = name.startswith("StableDiffusionXL")
        self.factor = int(pipe.vae_scale_factor)
        self._schedule, self._predicts = _schedule_of(path, pipe)
        self._prompt, self._pooled = self._encode_prompt(pipe, prompt)
        # The text encoders have said what they had to say, and weigh as much as the rest.
        self._vae, self.unet = pipe.vae.to(self.device), pipe.unet
        self.unet.to(self.device, self._dtype)
        self.loss_scale = 1024.0 if self._dtype is torch.float16 else 1.0
        """What a loss is multiplied by before its gradients are taken, so that halves can hold them."""
        if int(self.unet.config.in_channels) != int(self._vae.config.latent_channels):
            raise ModelError(
                f"{path}: the UNet takes {self.unet.config.in_channels} channels, the autoencoder gives "
                f"{self._vae.config.latent_channels}",
                "name a base that draws pictures from text alone",
            )

    @property
    def steps(self) -> int:
        """Length of the noise schedule."""
        return int(self._schedule.config.num_train_timesteps)

    @property
    def native_lines(self) -> int:
        """Lines of the pictures that the base was made for, as its configuration says."""
        size = self.unet.config.sample_size or 64
        return int(size if isinstance(size, int) else size[0]) * self.factor

    def encode(self, picture: Float, framing: Framing) -> Latent:
        """`picture`: (3, height, width) in model space, clipped to 0 … 1; sides are multiples of `factor`. Raises: RunnerError."""
        pixels = torch.from_numpy(np.clip(picture, 0, 1))[None] * 2 - 1
        with torch.no_grad():
            found = self._vae.encode(pixels.to(self.device)).latent_dist
        config = self._vae.config
        scale = torch.tensor(float(config.scaling_factor))
        shift = torch.tensor(float(getattr(config, "shift_factor", None) or 0.0))
        if getattr(config, "latents_mean", None) is not None and getattr(config, "latents_std", None) is not None:
            shift = torch.tensor(config.latents_mean).view(1, -1, 1, 1)
            scale = scale / torch.tensor(config.latents_std).view(1, -1, 1, 1)
        mean, deviation = (found.mean.cpu() - shift) * scale, found.std.cpu() * scale
        if not (torch.isfinite(mean).all() and torch.isfinite(deviation).all()):
            raise RunnerError("the base's autoencoder gave no numbers for a picture", "try the base's float32 weights")
        return Latent(mean, deviation, framing)

    def loss(self, latent: Latent, clean: Tensor, noise: Tensor, step: int, *, snr_gamma: float = 0.0) -> Tensor:
        """Mean squared error on one code, as drawn from `latent`, under `noise` at a step of the schedule.

        `snr_gamma`: 0 weights every step alike.
        """
        at = torch.tensor([step])
        noisy = self._schedule.add_noise(clean, noise, at)
        target = self._schedule.get_velocity(clean, noise, at) if self._predicts == "v_prediction" else noise
        more: dict[str, Any] = {}
        if self._has_framing:
            numbers = torch.tensor([latent.framing.numbers()], dtype=self._dtype, device=self.device)
            more["added_cond_kwargs"] = {"text_embeds": self._pooled, "time_ids": numbers}
        with self._precision():
            found = self.unet(
                noisy.to(self.device, self._dtype),
                at.to(self.device),
                encoder_hidden_states=self._prompt.to(self._dtype),
                return_dict=False,
                **more,
            )[0]
        error = torch.mean((found.float() - target.to(self.device)) ** 2)
        return error * self._weight(step, snr_gamma)

    def _weight(self, step: int, gamma: float) -> float:
        if not gamma:
            return 1.0
        kept = float(self._schedule.alphas_cumprod[step])
        snr = max(kept / max(1 - kept, _LEAST_SNR), _LEAST_SNR)
        return min(snr, gamma) / (snr + 1 if self._predicts == "v_prediction" else snr)

    def _precision(self) -> AbstractContextManager[Any]:
        if self._dtype is torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self._dtype)

    def _encode_prompt(self, pipe: Any, prompt: str) -> tuple[Tensor, Tensor | None]:
        """The prompt for every word, and as one where the model wants that too."""
        for name in ("text_encoder", "text_encoder_2"):
            encoder = getattr(pipe, name, None)
            if encoder is not None:
                encoder.to(self.device)
        with torch.no_grad():
            found = pipe.encode_prompt(
                prompt, device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
            )
        return found[0].detach(), found[2].detach() if self._has_framing else None


def _schedule_of(path: Path, pipe: Any) -> tuple[Any, str]:
    """The noise that the base was trained under, and what it says of it. Raises: ModelError (flow matching and the like)."""
    from diffusers import DDPMScheduler

    config = read_config(path / "scheduler", "scheduler_config.json")
    predicts = config.get("prediction_type", "epsilon")
    if predicts not in _PREDICTIONS or "beta_schedule" not in config or pipe.scheduler.config.get("use_flow_sigmas"):
        raise ModelError(
            f"{path}: its scheduler {config.get('_class_name')} predicts {predicts!r}, which a LoRA isn't learned for here",
            "name a base of Stable Diffusion or Stable Diffusion XL that predicts noise or velocity",
        )
    return DDPMScheduler.from_config(pipe.scheduler.config), predicts


def _computing(path: Path) -> tuple[torch.device, torch.dtype]:
    """Where the base computes, and its UNet's precision there: on a GPU that of its file, where all of it has the same."""
    if not torch.cuda.is_available():
        return torch.device("cpu"), torch.float32
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it a GPU doesn't give the same bits twice
    kinds = {tensor.dtype for tensor in read_weights_header(path / "unet").values()}
    return torch.device("cuda"), _HALVES.get(kinds.pop(), torch.float32) if len(kinds) == 1 else torch.float32
