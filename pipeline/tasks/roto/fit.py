"""Teach one net one shot: a few hundred steps on samples from the artist's keys.

Loss: mean of the hardest quarter of the pixels' cross-entropy (bootstrapping: Wu et al. 2016) + half a Dice loss.
AdamW under the one-cycle schedule (Smith & Topin 2018); the encoder learns slower than the decoder.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from pipeline.errors import ModelError, RunnerError
from pipeline.models.facts import NET_KEY
from pipeline.tasks.roto.net import RotoNet
from pipeline.tasks.roto.sampler import Sample, Sampler

NET_NAME = "roto/1"
"""What a roto net calls itself in its metadata."""
_HARDEST = 0.25
_WEIGHT_DECAY = 1e-4
_WARM_UP = 0.15
_BETAS = (0.9, 0.99)
_LONGEST_GRADIENT = 0.3
"""Norm that the gradients of encoder and decoder are clipped to: a sample whose prior is missing pulls ten times as hard as others."""
_LAST, _ANSWERS = "decoder.head.1.bias", 4
"""The net's last weights, and how many of them each object has: a pixel and its three neighbours answer together."""
_NET, _ADAM = "net.", "adam."
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True)
class Rates:
    """Peak learning rates. A start that knows mattes already needs less than one that only knows photographs."""

    decoder: float = 2e-3
    encoder: float = 3e-4


IMAGENET_RATES = Rates()
STUDIO_RATES = Rates(decoder=7e-4, encoder=1e-4)


def new_net(objects: int, seed: int, start: Mapping[str, Tensor], *, imagenet: bool) -> RotoNet:
    """A net for that many objects: encoder (or all, for a studio's own start) from `start`, the rest drawn from `seed`.

    A studio's start knows one object: where the number of objects changes a layer's shape, that layer starts fresh.
    Raises: ModelError (the weights belong to another net).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = RotoNet(objects)
    if imagenet:
        net.encoder.load_imagenet(start)
    else:
        own = net.state_dict()
        net.load_state_dict({k: v for k, v in start.items() if k in own and own[k].shape == v.shape}, strict=False)
    return _ready(net)


def read_weights(path: Path) -> dict[str, Tensor]:
    """A safetensors file's tensors. Raises: ModelError (unreadable or damaged)."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"weights {path} can't be read: {error}", "check the file, or run the fit again") from error


def write_weights(net: RotoNet, path: Path) -> None:
    """Save a net as safetensors. Raises: OSError."""
    save_file({name: t.contiguous() for name, t in net.state_dict().items()}, path, metadata={NET_KEY: NET_NAME})


def read_studio(path: Path, name: str) -> dict[str, Tensor]:
    """The tensors of a studio's own net, whose metadata call it `name`. Raises: ModelError (another task's net, damaged)."""
    if name != NET_NAME:
        raise ModelError(f"weights {path} are of the net {name!r}, not of {NET_NAME!r}", "name a roto net")
    return read_weights(path)


def read_net(path: Path) -> RotoNet:
    """A fitted net, ready to predict. Raises: ModelError (unreadable, or another net's)."""
    return net_of(read_weights(path), str(path))


def net_of(state: Mapping[str, Tensor], name: str) -> RotoNet:
    """The net whose weights `state` holds whole, of as many objects as they are for, ready to predict. `name` is for the error.

    Raises: ModelError (another net's).
    """
    try:
        net = RotoNet(state[_LAST].shape[0] // _ANSWERS)
        net.load_state_dict(state)
    except (KeyError, RuntimeError) as error:
        raise ModelError(f"{name} belongs to another net", "run the fit step again, or name a roto net") from error
    return _ready(net).eval()


def ready_made(start: Mapping[str, Tensor], objects: int) -> RotoNet:
    """A studio's own net, for a shot of so many objects that isn't learned. One that knows one object is asked for each in turn.

    Raises: ModelError (it isn't whole), RunnerError (it knows another number of them).
    """
    net = net_of(start, "the studio's model")
    if net.objects not in (1, objects):
        raise RunnerError(f"the model knows {net.objects} objects, the shot has {objects}", "set iterations above 0")
    return net


def _ready(net: RotoNet) -> RotoNet:
    """In the memory order that CPUs convolve fastest."""
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]  # torch's stub lacks this form


class Learner:
    """A net that learns, `iterations` steps in all. `losses`: those of the last tenth."""

    def __init__(self, net: RotoNet, iterations: int, rates: Rates) -> None:
        self.net = net.train()
        self.losses: deque[float] = deque(maxlen=max(1, iterations // 10))
        groups = [
            {"params": list(net.decoder.parameters()), "lr": rates.decoder},
            {"params": list(net.encoder.parameters()), "lr": rates.encoder},
        ]
        self._optimizer = torch.optim.AdamW(groups, betas=_BETAS, weight_decay=_WEIGHT_DECAY, fused=True)
        peaks = [rates.decoder, rates.encoder]
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer, peaks, total_steps=iterations + 1, pct_start=_WARM_UP
        )

    def step(self, sample: Sample) -> float:
        """Learn from one sample. Returns its loss."""
        rgb, prior, truth = (_tensor(a) for a in (sample.rgb, sample.prior, sample.truth))
        loss = loss_of(self.net(rgb, prior), truth, torch.from_numpy(sample.known))
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch declares it untyped
        torch.nn.utils.clip_grad_norm_(self.net.decoder.parameters(), _LONGEST_GRADIENT)
        torch.nn.utils.clip_grad_norm_(self.net.encoder.parameters(), _LONGEST_GRADIENT)
        self._optimizer.step()
        self._schedule.step()
        self.losses.append(float(loss.detach()))
        return self.losses[-1]

    def mean_loss(self) -> float:
        """Of the last tenth of the steps."""
        return float(np.mean(self.losses)) if self.losses else 0.0

    def state(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        """All that the next step goes by: tensors, and plain facts that JSON takes."""
        tensors = {f"{_NET}{name}": t for name, t in self.net.state_dict().items()}
        for number, parameter in enumerate(self._parameters()):
            for name, value in self._optimizer.state[parameter].items():
                tensors[f"{_ADAM}{number}.{name}"] = value
        groups = [{k: v for k, v in group.items() if k != "params"} for group in self._optimizer.param_groups]
        return tensors, {"groups": groups, "schedule": self._schedule.state_dict(), "losses": list(self.losses)}

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Go on from a `state`, bit for bit. Raises: KeyError, RuntimeError (it is another net's)."""
        self.net.load_state_dict({n.removeprefix(_NET): t for n, t in tensors.items() if n.startswith(_NET)})
        for number, parameter in enumerate(self._parameters()):
            # The fused step walks through memory: what it keeps must lie as the parameter lies.
            state = {n: torch.empty_like(parameter) for n in _MOMENTS}
            for name, value in state.items():
                value.copy_(tensors[f"{_ADAM}{number}.{name}"])
            self._optimizer.state[parameter] = state | {"step": tensors[f"{_ADAM}{number}.step"].clone()}
        for group, known in zip(self._optimizer.param_groups, facts["groups"], strict=True):
            group.update({k: tuple(v) if isinstance(v, list) else v for k, v in known.items()})
        self._schedule.load_state_dict(dict(facts["schedule"]))
        self.losses.extend(facts["losses"])

    def _parameters(self) -> list[torch.nn.Parameter]:
        return [p for group in self._optimizer.param_groups for p in group["params"]]


def train(
    net: RotoNet, sampler: Sampler, iterations: int, rates: Rates, on_step: Callable[[int, float], None]
) -> float:
    """`iterations` steps, one sample each. `on_step(done, loss)` after each, and may raise to stop. Returns the mean loss
    of the last tenth."""
    learner = Learner(net, iterations, rates)
    for step in range(iterations):
        on_step(step + 1, learner.step(sampler.draw()))
    net.eval()
    return learner.mean_loss()


def loss_of(logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """How wrong `logits` (1, objects, h, w) are; objects with `known` 0 don't count."""
    total = logits.new_zeros(())
    for i in range(logits.shape[1]):
        if not known[i]:
            continue
        x, y = logits[0, i], truth[0, i]
        entropy = F.binary_cross_entropy_with_logits(x, y, reduction="none").flatten()
        with torch.no_grad():  # a partition finds the threshold several times faster than a sort
            keep = max(1, int(entropy.numel() * _HARDEST))
            threshold = float(np.partition(entropy.numpy(), -keep)[-keep])
        hard = entropy[entropy >= threshold].mean()
        p = torch.sigmoid(x)
        dice = 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)
        total = total + hard + 0.5 * dice
    return total / known.sum().clamp_min(1)


def _tensor(array: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Tensor:
    return torch.from_numpy(array[None]).contiguous(memory_format=torch.channels_last)
