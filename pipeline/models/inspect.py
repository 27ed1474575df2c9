"""What weights at a path are, before anything loads them: their family, what they were made for, their hash.

Runs in a child with limits when a job is submitted, and once more before a runner loads them. Standard library alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.errors import ModelError
from pipeline.models.adapters import inspect_controlnet, inspect_lora
from pipeline.models.facts import (
    DIFFUSERS,
    NET,
    NET_KEY,
    RVM_ONNX,
    SALIENCY_ONNX,
    SAM2,
    VITMATTE,
    WORDS,
    ModelFacts,
)
from pipeline.models.files import check_sha256, read_header, refuse_pickle
from pipeline.models.folder import base_of, check_data_only, core_of, read_config, read_weights_header, variant_of
from pipeline.models.known import PIPELINES, UNUSED, is_known, is_net
from pipeline.models.onnx_header import OnnxHeader, Port, read_onnx

__all__ = ["ModelFacts", "inspect_controlnet", "inspect_lora", "inspect_model", "recognise"]

RVM_INPUTS = ("src", "r1i", "r2i", "r3i", "r4i", "downsample_ratio")
RVM_OUTPUTS = ("fgr", "pha", "r1o", "r2o", "r3o", "r4o")
_MOST_OUTPUTS = 16


def inspect_model(path: Path, *, families: tuple[str, ...], sha256: str = "") -> ModelFacts:
    """The facts of weights at a path, with their hash.

    `families`: those that the task can load. `sha256`: what they must have, when it is known already.
    Raises: ModelError (absent, pickled, with code, broken, of another family, of another hash).
    """
    facts = recognise(path, families=families)
    return replace(facts, sha256=check_sha256(path, sha256))


def recognise(path: Path, *, families: tuple[str, ...]) -> ModelFacts:
    """The same without reading the weights through: no hash. Raises: ModelError."""
    if not families:
        raise ModelError(f"{path}: this task has no model to choose", "leave the model out")
    if path.is_dir():
        facts = _folder(path)
    elif path.is_file():
        facts = _file(path, families)
    else:
        raise ModelError(f"there are no weights at {path}", "check the path, and that this machine sees it")
    if facts.family not in families:
        raise ModelError(
            f"{path} is {WORDS.get(facts.family, facts.family)}, and this task takes {_wanted(families)}",
            "name another model, or leave it out",
        )
    return facts


def _wanted(families: tuple[str, ...]) -> str:
    return " or ".join(WORDS[f] for f in families)


def _file(path: Path, families: tuple[str, ...]) -> ModelFacts:
    refuse_pickle(path)
    if path.suffix.lower() == ".onnx":
        return _onnx(path, read_onnx(path), families)
    if path.suffix.lower() != ".safetensors":
        raise ModelError(f"weights {path} are neither .safetensors nor .onnx", f"this task takes {_wanted(families)}")
    header = read_header(path)
    name = header.metadata.get(NET_KEY, "")
    if not name:
        what = "a LoRA, which goes beside its base" if _looks_like_lora(header.tensors) else "of no net that we know"
        raise ModelError(
            f"{path} is {what}: its metadata have no {NET_KEY!r}", f"as a model, this task takes {_wanted(families)}"
        )
    return ModelFacts(NET, path, base=name, details={"net": name, "tensors": str(len(header.tensors))})


def _looks_like_lora(tensors: Mapping[str, Any]) -> bool:
    return any("lora" in name.lower() for name in tensors)


def _onnx(path: Path, header: OnnxHeader, families: tuple[str, ...]) -> ModelFacts:
    """The family whose signature it has; one that the task takes, where it has several."""
    inputs, outputs = [p.name for p in header.inputs], [p.name for p in header.outputs]
    details = {"inputs": _ports(header.inputs), "outputs": _ports(header.outputs)}
    details |= {f"note {key}": value[:200] for key, value in header.metadata.items()}
    if set(inputs) == set(RVM_INPUTS) and set(outputs) == set(RVM_OUTPUTS):
        return ModelFacts(RVM_ONNX, path, details=details)
    if _is_saliency(header):
        return ModelFacts(SALIENCY_ONNX, path, details=details)
    wanted = {
        SALIENCY_ONNX: "one input [1,3,h,w] of float32 and outputs [1,1,h,w]",
        RVM_ONNX: f"inputs {', '.join(RVM_INPUTS)} and outputs {', '.join(RVM_OUTPUTS)}",
    }
    asked = " or ".join(wanted[f] for f in families if f in wanted) or _wanted(families)
    raise ModelError(
        f"{path} takes {details['inputs']} and gives {details['outputs']}; this task wants {asked}",
        "export the model with that signature, or name another",
    )


def _is_saliency(header: OnnxHeader) -> bool:
    if len(header.inputs) != 1 or not 1 <= len(header.outputs) <= _MOST_OUTPUTS:
        return False
    picture, first = header.inputs[0], header.outputs[0]
    floats = ("float32", "float16")
    takes = picture.dtype in floats and _fits(picture.shape, (1, 3, None, None))
    gives = first.dtype in floats and (_fits(first.shape, (1, 1, None, None)) or _fits(first.shape, (1, None, None)))
    return takes and gives


def _fits(shape: tuple[int | None, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        a is None or b is None or a == b for a, b in zip(shape, wanted, strict=True)
    )


def _ports(ports: tuple[Port, ...]) -> str:
    return ", ".join(str(p) for p in ports[:8]) + (f" and {len(ports) - 8} more" if len(ports) > 8 else "") or "nothing"


def _folder(path: Path) -> ModelFacts:
    check_data_only(path)
    if (path / "model_index.json").is_file():
        return _diffusers(path)
    config = read_config(path)
    kinds: dict[str, Callable[[Path, Mapping[str, Any]], ModelFacts]] = {"sam2_video": _sam2, "vitmatte": _vitmatte}
    kind = config.get("model_type")
    if isinstance(kind, str) and kind in kinds:
        return kinds[kind](path, config)
    what = config.get("_class_name") or kind
    hint = "give it as the control net, beside a model" if what == "ControlNetModel" else "name another model's folder"
    raise ModelError(f"{path} is of {what!r}, which is no model that any task loads", hint)


def _diffusers(path: Path) -> ModelFacts:
    index = read_config(path, "model_index.json")
    name = index.get("_class_name")
    if not isinstance(name, str) or name not in PIPELINES:
        raise ModelError(f"{path} is of the pipeline {name!r}, which is none of those that are loaded", _PIPELINE_HINT)
    variants = set()
    for component, entry in index.items():
        if component.startswith("_") or not isinstance(entry, list):
            continue
        if entry == [None, None]:
            continue
        if len(entry) != 2 or not all(isinstance(e, str) for e in entry) or not is_known(component, *entry):
            raise ModelError(
                f"{path}: its {component} is of {entry!r}, which is no class that is loaded", _PIPELINE_HINT
            )
        if component in UNUSED:
            continue
        folder = path / component
        if not folder.is_dir():
            raise ModelError(f"{path} has no folder {component}", "copy the model again, whole")
        if is_net(*entry):
            own = read_config(folder).get("_class_name", entry[1])
            if own != entry[1]:
                raise ModelError(f"{path}: {component} is of {own!r}, the index says {entry[1]!r}", _PIPELINE_HINT)
            read_weights_header(folder)
            variants.add(variant_of(folder))
    if len(variants) > 1:
        raise ModelError(f"{path} has some weights only as fp16, others not", "keep one variant of every component")
    return ModelFacts(DIFFUSERS, path, base=base_of(path), details=_diffusers_details(path, name, variants))


_PIPELINE_HINT = "models with classes of their own are never loaded: name a folder that diffusers itself saved"


def _diffusers_details(path: Path, name: str, variants: set[str]) -> dict[str, str]:
    core = core_of(path)
    config = read_config(path / core)
    keys = ("in_channels", "cross_attention_dim", "block_out_channels", "sample_size")
    details = {key: str(config[key]) for key in keys if key in config}
    return {"pipeline": name, "core": core, "variant": "".join(variants), **details}


def _sam2(path: Path, config: Mapping[str, Any]) -> ModelFacts:
    tensors = read_weights_header(path)
    for part in ("vision_encoder.", "memory_attention.", "memory_encoder.", "mask_decoder.", "prompt_encoder."):
        if not any(name.startswith(part) for name in tensors):
            raise ModelError(
                f"{path} has no weights of {part.rstrip('.')}",
                "name a folder of Sam2VideoModel: the image model can't track",
            )
    return ModelFacts(
        SAM2, path, details={"image_size": str(config.get("image_size", 1024)), "variant": variant_of(path)}
    )


def _vitmatte(path: Path, config: Mapping[str, Any]) -> ModelFacts:
    tensors = read_weights_header(path)
    for part in ("backbone.", "decoder."):
        if not any(name.startswith(part) for name in tensors):
            raise ModelError(f"{path} has no weights of {part.rstrip('.')}", "name a folder of VitMatteForImageMatting")
    return ModelFacts(
        VITMATTE, path, details={"hidden_size": str(config.get("hidden_size", 384)), "variant": variant_of(path)}
    )
