"""The LoRA of a studio's look while it is learned: its layers in the UNet, its optimiser, its states and its file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import AdamW

from pipeline.errors import RunnerError
from pipeline.models.facts import LORA_KEY
from pipeline.models.files import read_header
from pipeline.paths import storage_error

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
"""The layers that learn: those of every attention."""
_ADAPTER = "learning"
_WEIGHT_DECAY = 1e-2
_BETAS = (0.9, 0.999)
_WARM_UP = 0.05
_LONGEST_GRADIENT = 1.0


class LearningLora:
    """A LoRA inside a UNet whose own weights stay as they are, with all that decides its next step."""

    def __init__(
        self, unet: Any, *, rank: int, alpha: float, learning_rate: float, iterations: int, loss_scale: float, seed: int
    ) -> None:
        """`loss_scale`: what losses come multiplied by. Raises: RunnerError (a rank beyond the narrowest layer's width)."""
        from peft import LoraConfig

        self._scale = alpha / rank
        self._peak, self._iterations, self._loss_scale = learning_rate, iterations, loss_scale
        _check_rank(unet, rank)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            unet.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(TARGETS)), adapter_name=_ADAPTER)
        unet.enable_gradient_checkpointing()
        self.layers: dict[str, Tensor] = {}
        """The halves by name, as a file has them but for the prefix; float32 whatever the base is."""
        for name, weight in sorted(unet.named_parameters()):
            if weight.requires_grad:
                weight.data = weight.data.float()
                self.layers[name.replace(f".{_ADAPTER}.", ".")] = weight
        self._optimizer = AdamW(
            list(self.layers.values()), lr=learning_rate, betas=_BETAS, weight_decay=_WEIGHT_DECAY, foreach=False
        )
        self.generator = torch.Generator().manual_seed(seed)
        """All chance of the learning: which picture, how much noise, which noise."""
        self.done = 0

    def step(self) -> None:
        """Go along the gradients that were gathered, and forget them. Raises: RunnerError (they are no numbers)."""
        weights = list(self.layers.values())
        for weight in weights:
            if weight.grad is not None and self._loss_scale != 1:
                weight.grad.div_(self._loss_scale)
        length = float(torch.nn.utils.clip_grad_norm_(weights, _LONGEST_GRADIENT, foreach=False))
        if not math.isfinite(length):
            raise diverged(self.done + 1, "gradient", length)
        for group in self._optimizer.param_groups:
            group["lr"] = self._peak * _pace(self.done, self._iterations)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.done += 1

    def state(self) -> dict[str, Tensor]:
        """All that the next step hangs on but the number of steps: weights, the optimiser's means, the generator."""
        tensors = {"generator": self.generator.get_state()}
        for name, weight in self.layers.items():
            held = self._optimizer.state[weight]
            tensors |= {f"weight {name}": weight.detach()}
            tensors |= {f"mean {name}": held["exp_avg"], f"square {name}": held["exp_avg_sq"]}
        return tensors

    def restore(self, done: int, tensors: Mapping[str, Tensor]) -> None:
        """Go on from a state."""
        with torch.no_grad():
            for name, weight in self.layers.items():
                weight.copy_(tensors[f"weight {name}"])
                self._optimizer.state[weight] = {
                    "step": torch.tensor(float(done)),
                    "exp_avg": tensors[f"mean {name}"].clone().to(weight.device),
                    "exp_avg_sq": tensors[f"square {name}"].clone().to(weight.device),
                }
        self.generator.set_state(tensors["generator"])
        self.done = done

    def save(self, path: Path, facts: Mapping[str, float | str | int]) -> None:
        """As diffusers loads it. Alpha is multiplied in: a file without one means alpha = rank to every host that reads it.

        The facts are one entry of the metadata, because the library writes several in no fixed order. Raises: StorageError.
        """
        tensors = {
            f"unet.{name}": (weight.detach() * (self._scale if ".lora_B." in name else 1.0)).cpu().contiguous()
            for name, weight in self.layers.items()
        }
        part = path.with_name(f".{path.name}.part")
        try:
            save_file(tensors, part, metadata={LORA_KEY: json.dumps(facts, sort_keys=True)})
            part.replace(path)
        except OSError as error:
            raise storage_error(error, path) from error


def trained_prompt(path: Path) -> str | None:
    """The prompt that a LoRA was learned with, where it was learned here. Raises: ModelError (no safetensors)."""
    try:
        facts = json.loads(read_header(path).metadata.get(LORA_KEY, "{}"))
    except ValueError:
        return None
    found = facts.get("prompt") if isinstance(facts, dict) else None
    return found if isinstance(found, str) else None


def diverged(step: int, what: str, value: float) -> RunnerError:
    """What a loss or gradient that is no number means for a person."""
    return RunnerError(
        f"the learning went astray: at step {step} the {what} is {value}",
        "set a lower learning rate, or a larger batch",
    )


def _pace(done: int, iterations: int) -> float:
    """Part of the peak rate: up in a straight line, then down along a cosine."""
    warm = max(1, round(iterations * _WARM_UP))
    if done < warm:
        return (done + 1) / (warm + 1)
    return 0.5 * (1 + math.cos(math.pi * (done - warm) / max(1, iterations - warm)))


def _check_rank(unet: Any, rank: int) -> None:
    narrowest = min(
        min(module.weight.shape[:2])
        for name, module in unet.named_modules()
        if name.endswith(tuple(f".{t}" for t in TARGETS))
    )
    if rank > narrowest:
        raise RunnerError(
            f"a rank of {rank} is more than the base's narrowest attention has, which is {narrowest} wide",
            f"set a rank of at most {narrowest}; 4 to 32 do for a look",
        )
