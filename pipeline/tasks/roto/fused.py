"""A fitted net made for answering only: the same function as `net.RotoNet`, in about half the time on a CPU.

Batch norms are folded into the convolutions once. ReLU6 happens inside oneDNN's convolution, which saves a pass over every
feature; so does padding for stride 2, as a row and a column of zeros in the filter. Both answers that `infer` mixes, led by the priors
and without them, are computed as one batch, and share what doesn't depend on the priors. In bfloat16, where the CPU has it, all that
takes half the time again.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.tasks.roto.net import Decoder, Encoder, FoldedConv, RotoNet

_RELU6: tuple[str, list[float], str] = ("hardtanh", [0.0, 6.0], "")
_PLAIN: tuple[str, list[float], str] = ("none", [], "")


def _onednn() -> bool:
    """Whether this PyTorch has oneDNN and the operator through which its own compiler calls it."""
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch declares it untyped
    return available and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


def has_bfloat16() -> bool:
    """Whether this CPU multiplies in bfloat16 itself (AVX-512 BF16): only there it's faster."""
    known = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return known is not None and bool(known()) and _onednn()


class _Conv:
    """A convolution with constant weights, of the type `kind`, with a ReLU6 behind it or without."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        kind: torch.dtype,
        *,
        padding: int = 0,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        self._weight = weight.detach().to(kind).contiguous(memory_format=torch.channels_last)
        self._bias = None if bias is None else bias.detach().to(kind).contiguous()
        self._padding, self._stride, self._groups = [padding] * 2, [stride] * 2, groups
        self._fused = _onednn() and (kind is torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()))

    @classmethod
    def folded(cls, conv: FoldedConv, kind: torch.dtype) -> _Conv:
        """Of the encoder's. TensorFlow pads stride 2 right and below only: (k − 2) // 2 before and k − 2 − (k − 2) // 2 after. A
        filter of k + 1 whose first row and column are 0, padded alike on all sides, meets the same pixels."""
        weight, bias = conv.folded()
        side = weight.shape[-1]
        if conv.stride == 1:
            return cls(weight, bias, kind, padding=side // 2, groups=conv.groups)
        return cls(F.pad(weight, (1, 0, 1, 0)), bias, kind, padding=side // 2, stride=conv.stride, groups=conv.groups)

    def __call__(self, x: Tensor, *, relu6: bool = False) -> Tensor:
        if self._fused:
            how = _RELU6 if relu6 else _PLAIN
            return cast(
                Tensor,
                torch.ops.mkldnn._convolution_pointwise(
                    x, self._weight, self._bias, self._padding, self._stride, [1, 1], self._groups, *how
                ),
            )
        y = F.conv2d(x, self._weight, self._bias, self._stride, self._padding, 1, self._groups)
        return F.relu6(y, inplace=True) if relu6 else y


class _FusedEncoder:
    """`net.Encoder`, batch norms folded."""

    def __init__(self, encoder: Encoder, kind: torch.dtype) -> None:
        self._kind = kind
        self._mean, self._scale = encoder.mean, 1 / encoder.std
        self._stem = _Conv.folded(encoder.stem, kind)
        self._blocks = [
            (
                None if block.expand is None else _Conv.folded(block.expand, kind),
                _Conv.folded(block.depthwise, kind),
                _Conv.folded(block.project, kind),
                block.residual,
            )
            for block in encoder.each_block()
        ]
        self._taps = encoder.taps

    def __call__(self, rgb: Tensor) -> list[Tensor]:
        x = self._stem(((rgb - self._mean) * self._scale).to(self._kind), relu6=True)
        features: list[Tensor] = []
        for i, (expand, depthwise, project, residual) in enumerate(self._blocks):
            y = project(depthwise(x if expand is None else expand(x, relu6=True), relu6=True))
            x = y.add_(x) if residual else y
            if i in self._taps:
                features.append(x)
        return features


class _Smooth:
    """Convolution, group norm, ReLU."""

    def __init__(self, layers: nn.Sequential, kind: torch.dtype) -> None:
        self.conv = _Conv(cast(nn.Conv2d, layers[0]).weight, None, kind, padding=1)
        self._norm = cast(nn.GroupNorm, layers[1])

    def __call__(self, x: Tensor) -> Tensor:
        return self.finish(self.conv(x))

    def finish(self, x: Tensor) -> Tensor:
        """What follows the convolution."""
        return self._norm(x).relu_()  # type: ignore[no-any-return]


class _FusedDecoder:
    """`net.Decoder` asked twice at once, a batch of led and unled, or once, led."""

    def __init__(self, decoder: Decoder, objects: int, kind: torch.dtype) -> None:
        self._kind = kind
        self._features, self._mattes, self._credits = [], [], []
        for layer in decoder.lateral:
            conv = cast(nn.Conv2d, layer)
            channels = conv.in_channels - 2 * objects
            parts = torch.split(conv.weight.detach(), [channels, objects, objects], 1)
            self._features.append(_Conv(parts[0], conv.bias, kind))
            self._mattes.append(_Conv(parts[1], None, kind))
            self._credits.append(parts[2].flatten(1).to(kind))
        self._reduce = [_Conv(cast(nn.Conv2d, c).weight, cast(nn.Conv2d, c).bias, kind) for c in decoder.reduce]
        self._smooth = [_Smooth(cast(nn.Sequential, layers), kind) for layers in decoder.smooth]
        self._fine = _Smooth(decoder.fine, kind)
        fine = cast(nn.Conv2d, decoder.fine[0]).weight.detach()
        self._fine_rgb, self._fine_prior = (
            _Conv(w, None, kind, padding=1) for w in torch.split(fine, [12, 8 * objects], 1)
        )
        self._head = _Smooth(cast(nn.Sequential, decoder.head[0]), kind)
        last = cast(nn.Conv2d, decoder.head[1])
        self._last = _Conv(last.weight, last.bias, kind, padding=1)
        self._trust = float(decoder.trust.detach())

    def __call__(
        self, features: list[Tensor], rgb: Tensor, mattes: Tensor, credit: Tensor, unled: bool
    ) -> tuple[Tensor, Tensor | None]:
        believed = credit[None, :, None, None].expand_as(mattes)
        moved, trust = mattes.to(self._kind), credit.to(self._kind)
        small = [F.avg_pool2d(moved, 2)]
        for _ in features[1:]:
            small.append(F.avg_pool2d(small[-1], 2))
        top: Tensor | None = None
        for i in reversed(range(len(features))):
            x = self._features[i](features[i])
            led = self._mattes[i](small[i]).add_(x).add_((self._credits[i] @ trust)[:, None, None])
            x = _batch(led, x) if unled else led
            if top is not None:
                x += F.interpolate(self._reduce[i](top), size=x.shape[-2:], mode="bilinear", align_corners=False)
            top = self._smooth[i](x)
        assert top is not None
        seen = self._fine_rgb(_quads((rgb - 0.5).to(self._kind)))
        led = self._fine_prior(_quads(torch.cat([mattes, believed], 1).to(self._kind))).add_(seen)
        fine = self._fine.finish(_batch(led, seen) if unled else led)
        answers = F.pixel_shuffle(self._last(self._head(torch.cat([top, fine], 1))), 2).float()
        return answers[0] + self._trust * (2 * mattes[0] - 1) * believed[0], answers[1] if unled else None


class FusedNet:
    """A net ready to predict. `rgb` (1, 3, height, width) and `mattes` (1, objects, height, width) with sides that are multiples of 32,
    `credit` (objects,): the overlap to expect of each matte, 0 for none. All float32; `bfloat16` is how it computes inside."""

    def __init__(self, net: RotoNet, *, bfloat16: bool = False) -> None:
        self.objects = net.objects
        kind = torch.bfloat16 if bfloat16 else torch.float32
        self._encoder = _FusedEncoder(net.encoder, kind)
        self._decoder = _FusedDecoder(net.decoder, net.objects, kind)

    def answers(
        self, rgb: Tensor, mattes: Tensor, credit: Tensor, *, unled: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """Logits, (objects, height, width): led by the mattes, and without them where `unled` asks for it."""
        return self._decoder(self._encoder(rgb), rgb, mattes, credit, unled)


def _batch(led: Tensor, unled: Tensor) -> Tensor:
    return torch.cat([led, unled]).contiguous(memory_format=torch.channels_last)


def _quads(x: Tensor) -> Tensor:
    return F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last)
