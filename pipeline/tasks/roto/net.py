"""The net of one shot: an ImageNet encoder and a small decoder that also sees where motion says the objects are.

Encoder: EfficientNet-Lite0 (Tan & Le 2019, without squeeze-and-excitation and with ReLU6), features at strides 2, 4, 8, 16, 32.
Decoder: top-down feature pyramid (Lin et al. 2017) to full resolution. Per-object priors enter it at every scale, as in
MaskTrack (Perazzi et al. 2017): the encoder runs once however many objects there are, each has an output of its own.

Arrays: (batch, channels, height, width) float32; height and width are multiples of 32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.errors import ModelError

STRIDE = 32
"""Sides of an input are multiples of this."""
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_EPSILON = 1e-3


@dataclass(frozen=True, slots=True)
class _Stage:
    """A row of Lite0's table: `repeats` blocks, the first of which strides."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    channels: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
_TAPS = (16, 24, 40, 112, 320)
"""Channels of the encoder's features, finest first."""
_WIDTHS = (16, 32, 48, 64, 64)
"""Channels of the decoder at the same scales."""
_TRUST = 2.0
"""Logit that a perfect prior starts with: the net learns where to correct it, rather than to draw anew."""


class FoldedConv(nn.Module):
    """A convolution and its frozen batch norm in one: the norm's scale goes into the weight at every call.

    The same function and gradients as the pair in evaluation mode, without the norm's passes over the picture, which on
    a CPU cost about as much as the convolutions. "SAME" padding as TensorFlow has it: a stride of 2 pads right and below.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs // groups, kernel, kernel))
        self.gain = nn.Parameter(torch.ones(outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("mean", torch.zeros(outputs))
        self.register_buffer("variance", torch.ones(outputs))
        self.stride, self.groups = stride, groups
        self.padding = (kernel - 1) // 2 if stride == 1 else 0
        total = kernel - stride
        self.pad = (total // 2, total - total // 2) * 2 if stride > 1 else None
        nn.init.kaiming_normal_(self.weight, mode="fan_out")

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the two as one convolution."""
        scale = self.gain * torch.rsqrt(self.variance + _EPSILON)
        return self.weight * scale[:, None, None, None], self.bias - self.mean * scale

    def forward(self, x: Tensor) -> Tensor:
        if self.pad is not None:
            x = F.pad(x, self.pad)
        weight, bias = self.folded()
        return F.conv2d(x, weight, bias, self.stride, self.padding, 1, self.groups)


class _Block(nn.Module):
    """Inverted residual: widen, filter each channel, narrow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        wide = inputs * expand
        self.expand = FoldedConv(inputs, wide, 1) if expand > 1 else None
        self.depthwise = FoldedConv(wide, wide, kernel, stride=stride, groups=wide)
        self.project = FoldedConv(wide, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x), inplace=True)
        y = self.project(F.relu6(self.depthwise(y), inplace=True))
        return cast(Tensor, y + x if self.residual else y)


class Encoder(nn.Module):
    """EfficientNet-Lite0 without its classifier. Gives the last features of strides 2, 4, 8, 16 and 32."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = FoldedConv(3, 32, 3, stride=2)
        blocks: list[_Block] = []
        taps: list[int] = []
        channels = 32
        for stage in _STAGES:
            for i in range(stage.repeats):
                stride = stage.stride if i == 0 else 1
                if stride > 1:
                    taps.append(len(blocks) - 1)
                blocks.append(_Block(channels, stage.channels, stage.kernel, stride, stage.expand))
                channels = stage.channels
        taps.append(len(blocks) - 1)
        self.blocks = nn.ModuleList(blocks)
        self.taps = frozenset(taps)
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, rgb: Tensor) -> list[Tensor]:
        x = F.relu6(self.stem((rgb - self.mean) / self.std), inplace=True)
        features: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.taps:
                features.append(x)
        return features

    def each_block(self) -> list[_Block]:
        """Its blocks in order."""
        return [cast(_Block, module) for module in self.blocks]

    def load_imagenet(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights of `pipeline.models.backbone`. Raises: ModelError (a weight is missing or of another shape)."""
        try:
            _copy(self.stem, state, "_conv_stem.weight", "_bn0")
            for i, block in enumerate(self.each_block()):
                prefix = f"_blocks.{i}."
                if block.expand is not None:
                    _copy(block.expand, state, prefix + "_expand_conv.weight", prefix + "_bn0")
                _copy(block.depthwise, state, prefix + "_depthwise_conv.weight", prefix + "_bn1")
                _copy(block.project, state, prefix + "_project_conv.weight", prefix + "_bn2")
        except (KeyError, RuntimeError) as error:
            raise ModelError(
                f"these weights are not EfficientNet-Lite0's: {error}", "use the package's own weights"
            ) from error


def _copy(conv: FoldedConv, state: Mapping[str, Tensor], weight: str, norm: str) -> None:
    with torch.no_grad():
        conv.weight.copy_(state[weight])
        conv.gain.copy_(state[f"{norm}.weight"])
        conv.bias.copy_(state[f"{norm}.bias"])
        conv.mean.copy_(state[f"{norm}.running_mean"])
        conv.variance.copy_(state[f"{norm}.running_var"])


def _smooth(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.GroupNorm(min(8, outputs // 2), outputs),
        nn.ReLU(inplace=True),
    )


class Decoder(nn.Module):
    """Features and priors to one logit an object and pixel.

    The finest layers work at half resolution on four pixels at a time (sub-pixel convolution: Shi et al. 2016): at full
    resolution their few channels would cost a CPU as much as the whole encoder.
    """

    def __init__(self, objects: int) -> None:
        super().__init__()
        priors = 2 * objects
        self.lateral = nn.ModuleList([nn.Conv2d(c + priors, w, 1) for c, w in zip(_TAPS, _WIDTHS, strict=True)])
        self.reduce = nn.ModuleList([nn.Conv2d(_WIDTHS[i + 1], _WIDTHS[i], 1) for i in range(len(_WIDTHS) - 1)])
        self.smooth = nn.ModuleList([_smooth(w, w) for w in _WIDTHS])
        self.fine = _smooth(4 * (3 + priors), 16)
        self.head = nn.Sequential(_smooth(_WIDTHS[0] + 16, 32), nn.Conv2d(32, 4 * objects, 3, padding=1))
        self.trust = nn.Parameter(torch.tensor(_TRUST))

    def forward(self, features: list[Tensor], rgb: Tensor, prior: Tensor) -> Tensor:
        top: Tensor | None = None
        for i in reversed(range(len(features))):
            small = F.interpolate(prior, size=features[i].shape[-2:], mode="area")
            x = self.lateral[i](torch.cat([features[i], small], 1))
            if top is not None:
                x = x + F.interpolate(self.reduce[i](top), size=x.shape[-2:], mode="bilinear", align_corners=False)
            top = self.smooth[i](x)
        assert top is not None
        quads = F.pixel_unshuffle(torch.cat([rgb - 0.5, prior], 1), 2).contiguous(memory_format=torch.channels_last)
        correction = F.pixel_shuffle(self.head(torch.cat([top, self.fine(quads)], 1)), 2)
        mattes, quality = prior.chunk(2, 1)
        return correction + self.trust * (2 * mattes - 1) * quality


class RotoNet(nn.Module):
    """RGB in model space and the objects' priors in, a logit for each object out.

    `rgb`: (batch, 3, height, width). `prior`: (batch, 2 · objects, height, width): a matte 0 … 1 for each object, then
    for each the overlap with the truth (J) that its matte is expected to have, everywhere the same; 0 says that there is no matte.
    """

    def __init__(self, objects: int = 1) -> None:
        super().__init__()
        self.objects = objects
        self.encoder = Encoder()
        self.decoder = Decoder(objects)

    def forward(self, rgb: Tensor, prior: Tensor) -> Tensor:
        return cast(Tensor, self.decoder(self.encoder(rgb), rgb, prior))
