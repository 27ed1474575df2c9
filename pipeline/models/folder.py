"""A folder of a model, as diffusers and transformers save it: is all of it data, whole, and of classes that we know?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import ModelError
from pipeline.models.files import PICKLED, SafetensorsHeader, TensorFacts, read_header, read_json, walk

_CODE = frozenset({".py", ".pyc", ".so", ".dll", ".dylib", ".sh", ".ipynb", ".js"})
_FORBIDDEN = {
    "auto_map": "which names code of its own",
    "custom_pipeline": "which names code of its own",
    "custom_pipelines": "which names code of its own",
    "trust_remote_code": "which asks to run code of its own",
    "quantization_config": "which needs a quantisation library",
}
"""Keys of a configuration, at any depth, that a loader would follow to code."""
_PLAIN_LISTS = frozenset({"vocab.json", "added_tokens.json", "tokenizer.json"})
"""Texts of any wording; no configuration."""
_DEEPEST = 40
STEMS = ("model", "diffusion_pytorch_model")
"""Names of weights in a component's folder."""


def check_data_only(folder: Path) -> None:
    """Raises: ModelError (code, pickles, adapters that point elsewhere, configurations that name code, links outside)."""
    for path in walk(folder):
        name = path.relative_to(folder)
        suffix = path.suffix.lower()
        if suffix in _CODE:
            raise ModelError(f"{folder} has code in it: {name}", "models with custom code are never loaded")
        if suffix in PICKLED:
            raise ModelError(
                f"{folder} has pickled weights in it: {name}; {suffix} files can hold code",
                "keep the .safetensors files alone; where there are none, convert the weights",
            )
        if path.name == "adapter_config.json":
            raise ModelError(f"{folder} holds an adapter ({name}), not a whole model", "merge it into its base first")
        if suffix == ".json" and path.name not in _PLAIN_LISTS:
            for key in _keys(read_json(path), path, 0):
                if key in _FORBIDDEN:
                    raise ModelError(
                        f"{folder}: {name} has {key!r}, {_FORBIDDEN[key]}", "models with custom code are never loaded"
                    )


def _keys(value: Any, path: Path, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise ModelError(f"{path} is nested deeper than {_DEEPEST}", "this is no configuration of a model")
    if isinstance(value, dict):
        # A key that is set to nothing leads nowhere: libraries write some of these as null.
        yield from (k for k, v in value.items() if v not in (None, False, {}, []))
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _keys(inner, path, depth + 1)


def variant_of(folder: Path) -> str:
    """`fp16` where the weights are `….fp16.safetensors`, else "". Raises: ModelError (no safetensors)."""
    files = {p.name for p in walk(folder) if p.suffix == ".safetensors" and p.parent == folder}
    for stem in STEMS:
        if f"{stem}.safetensors" in files or f"{stem}.safetensors.index.json" in _names(folder):
            return ""
    for stem in STEMS:
        if f"{stem}.fp16.safetensors" in files or f"{stem}.safetensors.index.fp16.json" in _names(folder):
            return "fp16"
    raise ModelError(f"{folder} has no {' or '.join(f'{s}.safetensors' for s in STEMS)}", "copy the model again, whole")


def read_weights_header(folder: Path) -> dict[str, TensorFacts]:
    """The tensors of a component's folder, of one file or of all its shards.

    Raises: ModelError (none, broken, an index that names files outside or tensors that aren't there).
    """
    variant = variant_of(folder)
    for stem in STEMS:
        whole = folder / f"{stem}{'.' if variant else ''}{variant}.safetensors"
        if whole.is_file():
            return dict(read_header(whole).tensors)
    index = next(p for stem in STEMS if (p := folder / _index_name(stem, variant)).is_file())
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(v, str) for v in places.values()):
        raise ModelError(f"{index} has no weight_map", "copy the model again, whole")
    tensors: dict[str, TensorFacts] = {}
    headers: dict[str, SafetensorsHeader] = {}
    for name, file in places.items():
        if Path(file).name != file or not file.endswith(".safetensors"):
            raise ModelError(f"{index} names {file!r}, which is no file beside it", "copy the model again, whole")
        headers[file] = headers.get(file) or read_header(folder / file)
        if name not in headers[file].tensors:
            raise ModelError(f"{index} puts {name} into {file}, where it isn't", "copy the model again, whole")
        tensors[name] = headers[file].tensors[name]
    return tensors


def read_config(folder: Path, name: str = "config.json") -> Mapping[str, Any]:
    """A component's configuration. Raises: ModelError (absent or broken)."""
    if not (folder / name).is_file():
        raise ModelError(f"{folder} has no {name}", "name the model's own folder, whole")
    return read_json(folder / name)


def _index_name(stem: str, variant: str) -> str:
    return f"{stem}.safetensors.index{'.' if variant else ''}{variant}.json"


def _names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def core_of(path: Path) -> str:
    """The component that denoises: `unet` or `transformer`. Raises: ModelError (neither)."""
    for name in ("unet", "transformer"):
        if (path / name).is_dir():
            return name
    raise ModelError(f"{path} has neither a unet nor a transformer", "copy the model again, whole")


def base_of(path: Path) -> str:
    """What LoRAs and ControlNets are made for, as far as the widths tell it."""
    core = core_of(path)
    config = read_config(path / core)
    width = config.get("cross_attention_dim")
    names = {
        ("unet", 768): "Stable Diffusion 1",
        ("unet", 1024): "Stable Diffusion 2",
        ("unet", 2048): "Stable Diffusion XL",
    }
    known = names.get((core, width)) if isinstance(width, int) else None
    return known or f"{config.get('_class_name', core)}, cross-attention width {width}"
