"""What goes beside a base model: LoRAs and ControlNets, and whether they were made for that base.

LoRA (Hu et al. 2022): W' = W + strength · (alpha / r) · B A, with A (r, in) and B (out, r) for a W of (out, in). A file
names its layers in one of three ways: as peft and diffusers do, as diffusers once did, or as kohya's scripts do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.errors import ModelError
from pipeline.models.facts import CONTROLNET, DIFFUSERS, LORA, ModelFacts
from pipeline.models.files import TensorFacts, check_sha256, read_header, refuse_pickle
from pipeline.models.folder import check_data_only, core_of, read_config, read_weights_header, variant_of

_PAIR = re.compile(r"(?P<layer>.+?)\.(?P<half>lora_A|lora_B|lora\.down|lora\.up|lora_down|lora_up)(\.\w+)?\.weight")
_OLD_PAIR = re.compile(r"(?P<layer>.+)\.processor\.(?P<to>to_q|to_k|to_v|to_out)_lora\.(?P<half>down|up)\.weight")
_BESIDE = re.compile(r".+\.(alpha|dora_scale|lora_magnitude_vector(\.\w+)?(\.weight)?)")
"""Numbers that go with a pair."""
_KOHYA = {
    "lora_unet_": "unet",
    "lora_transformer_": "transformer",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
}
"""kohya's prefixes, and the components they mean."""
_COMPONENTS = ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3")
_ORIGINAL = ("input_blocks_", "middle_block_", "output_blocks_")
"""kohya's layer names for the original implementation's blocks: renamed on loading, so here only their widths are checked."""
_HINT = "name a LoRA that was trained on this base, or the base that it was trained on"


@dataclass(frozen=True, slots=True)
class _Pair:
    """A layer's two halves: inputs and rank of A, outputs and rank of B; 0 where a half is missing."""

    inputs: int = 0
    outputs: int = 0
    rank_a: int = 0
    rank_b: int = 0


def inspect_lora(path: Path, base: ModelFacts, *, sha256: str = "") -> ModelFacts:
    """The facts of a LoRA file, whose every layer was found in the base, of the same shape.

    Raises: ModelError (absent, pickled, broken, no LoRA, or one for another base).
    """
    if not path.is_file():
        raise ModelError(f"there is no LoRA at {path}", "name the .safetensors file itself")
    refuse_pickle(path)
    if path.suffix.lower() != ".safetensors":
        raise ModelError(f"LoRA {path} is not .safetensors", "other formats can hold code")
    if base.family != DIFFUSERS:
        raise ModelError(f"LoRA {path} has no base: a LoRA goes with a diffusers folder", "name its base as the model")
    pairs = _pairs(path, read_header(path).tensors)
    shapes = {
        part: _layers(base.path / part) for part in {component for component, _ in pairs} if (base.path / part).is_dir()
    }
    width = read_config(base.path / core_of(base.path)).get("cross_attention_dim")
    for (component, layer), pair in pairs.items():
        if component not in shapes:
            raise ModelError(f"LoRA {path} changes the {component}, which {base.path} hasn't", _HINT)
        _check_pair(path, base, f"{component}.{layer}", pair, _shape(shapes[component], layer, pair, width))
    ranks = sorted({pair.rank_a for pair in pairs.values()})
    details = {"layers": str(len(pairs)), "rank": "-".join(str(r) for r in {ranks[0]: 0, ranks[-1]: 0})}
    return ModelFacts(LORA, path, check_sha256(path, sha256), base.base, details)


def _pairs(path: Path, tensors: Mapping[str, TensorFacts]) -> dict[tuple[str, str], _Pair]:
    """(component, layer) → what the file has for it."""
    pairs: dict[tuple[str, str], _Pair] = {}
    for name, tensor in tensors.items():
        if found := _OLD_PAIR.fullmatch(name):
            layer = f"{found['layer']}.{found['to']}{'.0' if found['to'] == 'to_out' else ''}"
        elif found := _PAIR.fullmatch(name):
            layer = found["layer"]
        elif _BESIDE.fullmatch(name):
            continue
        else:
            raise ModelError(
                f"{path} is no LoRA that can be placed: it has a tensor {name}",
                "give a LoRA as diffusers or kohya save it",
            )
        if len(tensor.shape) < 2:
            raise ModelError(f"LoRA {path}: {name} has the shape {list(tensor.shape)}", "save it again")
        place = _place(path, layer)
        pair = pairs.get(place, _Pair())
        down = found["half"] in ("lora_A", "lora.down", "lora_down", "down")
        first, second = tensor.shape[:2]
        pairs[place] = (
            replace(pair, rank_a=first, inputs=second) if down else replace(pair, outputs=first, rank_b=second)
        )
    if not pairs:
        raise ModelError(f"{path} has no LoRA layers", "give a LoRA as diffusers or kohya save it")
    return pairs


def _place(path: Path, layer: str) -> tuple[str, str]:
    for prefix, component in _KOHYA.items():
        if layer.startswith(prefix):
            return component, layer.removeprefix(prefix)
    component, _, rest = layer.partition(".")
    if component in _COMPONENTS:
        return component, rest
    if layer.startswith(("down_blocks.", "up_blocks.", "mid_block.")):
        return "unet", layer
    raise ModelError(
        f"LoRA {path} names a layer {layer}, of no part of a model", "give a LoRA as diffusers or kohya save it"
    )


def _layers(folder: Path) -> dict[str, tuple[int, ...]]:
    """The base's layers by name, and again with underscores for dots, as kohya writes them."""
    own = {n.removesuffix(".weight"): t.shape for n, t in read_weights_header(folder).items() if n.endswith(".weight")}
    # Newer libraries leave the text encoder's outer name out, older LoRAs have it.
    own |= {f"text_model.{name}": shape for name, shape in own.items() if name.startswith("encoder.")}
    own |= {name.removeprefix("text_model."): shape for name, shape in own.items()}
    return own | {name.replace(".", "_"): shape for name, shape in own.items()}


def _shape(layers: Mapping[str, tuple[int, ...]], layer: str, pair: _Pair, width: Any) -> tuple[int, ...] | None:
    if layer in layers:
        return layers[layer]
    if layer.startswith(_ORIGINAL):
        return (pair.outputs, width if layer.endswith(("attn2_to_k", "attn2_to_v")) else pair.inputs)
    return None


def _check_pair(path: Path, base: ModelFacts, layer: str, pair: _Pair, shape: tuple[int, ...] | None) -> None:
    if shape is None or len(shape) < 2:
        raise ModelError(f"LoRA {path} is for another base: {base.path} ({base.base}) has no layer {layer}", _HINT)
    if pair.rank_a != pair.rank_b or not pair.rank_a:
        raise ModelError(f"LoRA {path}: the halves of {layer} don't belong together", "save it again")
    if (pair.outputs, pair.inputs) != shape[:2]:
        raise ModelError(
            f"LoRA {path} is for another base: {layer} takes {pair.inputs} and gives {pair.outputs}, in {base.path} "
            f"({base.base}) it takes {shape[1]} and gives {shape[0]}",
            _HINT,
        )


_CONTROL_KEYS = (
    "cross_attention_dim",
    "block_out_channels",
    "layers_per_block",
    "down_block_types",
    "addition_embed_type",
)
"""What a ControlNet has to share with the UNet whose layers it adds to."""


def inspect_controlnet(path: Path, base: ModelFacts, *, sha256: str = "") -> ModelFacts:
    """The facts of a ControlNet's folder (Zhang et al. 2023), made for the base's UNet.

    Raises: ModelError (absent, code, pickled, broken, no ControlNet, or one for another base).
    """
    if not path.is_dir():
        raise ModelError(f"there is no ControlNet folder at {path}", "name the folder that holds its config.json")
    check_data_only(path)
    config = read_config(path)
    if config.get("_class_name") != "ControlNetModel":
        raise ModelError(
            f"{path} is of {config.get('_class_name')!r}, no ControlNet", "name a folder of ControlNetModel"
        )
    if base.family != DIFFUSERS or core_of(base.path) != "unet":
        raise ModelError(
            f"ControlNet {path} goes with a diffusers folder that has a UNet", "name its base as the model"
        )
    unet = read_config(base.path / "unet")
    for key in _CONTROL_KEYS:
        if config.get(key) != unet.get(key):
            raise ModelError(
                f"ControlNet {path} is for another base: its {key} is {config.get(key)}, that of {base.path} "
                f"({base.base}) {unet.get(key)}",
                "name a ControlNet that was trained on this base",
            )
    read_weights_header(path)
    details = {"conditioning_channels": str(config.get("conditioning_channels", 3)), "variant": variant_of(path)}
    return ModelFacts(CONTROLNET, path, check_sha256(path, sha256), base.base, details)
