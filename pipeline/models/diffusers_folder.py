"""Pipelines of diffusers from local folders, with a LoRA and a ControlNet beside them."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from pipeline.errors import ModelError
from pipeline.models.adapters import inspect_controlnet, inspect_lora
from pipeline.models.facts import DIFFUSERS, ModelFacts
from pipeline.models.files import check_sha256
from pipeline.models.inspect import recognise
from pipeline.models.known import PIPELINES
from pipeline.models.loader import damaged, hush, settle_torch, stay_offline

ADAPTER = "studio"
"""The LoRA's name inside the pipeline."""
_CHECKERS: dict[str, Any] = {"safety_checker": None, "requires_safety_checker": False, "feature_extractor": None}


def open_diffusers(
    path: Path,
    pipeline_class_name: str,
    *,
    sha256: str = "",
    lora: Path | None = None,
    lora_strength: float = 1.0,
    controlnet: Path | None = None,
) -> Any:
    """A folder as a pipeline of that class, float32 on the CPU, in evaluation mode. A folder of one class opens as another
    that has the same components: what text-to-image saved, image-to-image loads.

    `lora_strength` 0 gives the base's own pictures, bit for bit; `set_strength` changes it later.
    Raises: ModelError (a class that isn't loaded; code, pickles; weights missing; a LoRA or ControlNet for another base).
    """
    if pipeline_class_name not in PIPELINES:
        raise ModelError(f"no pipeline of the class {pipeline_class_name!r} is loaded", "see pipeline/models/known.py")
    facts = recognise(path, families=(DIFFUSERS,))
    if sha256:
        check_sha256(path, sha256)
    if lora is not None:
        inspect_lora(lora, facts)
    control = None if controlnet is None else inspect_controlnet(controlnet, facts)
    stay_offline()
    settle_torch()
    import diffusers
    import torch
    import transformers

    hush(diffusers)
    hush(transformers)
    cls = getattr(diffusers, pipeline_class_name)
    takes = inspect.signature(cls.__init__).parameters
    if ("controlnet" in takes) != (control is not None):
        want = "needs a ControlNet" if control is None else "takes no ControlNet"
        raise ModelError(f"{pipeline_class_name} {want}", "give the one that goes with the pipeline")
    extra = {name: value for name, value in _CHECKERS.items() if name in takes}
    try:
        if control is not None:
            extra["controlnet"] = _controlnet(diffusers, torch, control)
        pipe = cls.from_pretrained(
            str(path),
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            variant=facts.details["variant"] or None,
            dtype=torch.float32,
            **extra,
        )
        if lora is not None:
            pipe.load_lora_weights(
                str(lora.parent),
                weight_name=lora.name,
                adapter_name=ADAPTER,
                local_files_only=True,
                use_safetensors=True,
            )
            set_strength(pipe, lora_strength)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, error) from error
    _settle(pipe)
    return pipe


def set_strength(pipe: Any, strength: float) -> None:
    """How much of the LoRA counts, from 0 (the base alone)."""
    pipe.set_adapters([ADAPTER], [strength])


def _controlnet(diffusers: Any, torch: Any, control: ModelFacts) -> Any:
    return diffusers.ControlNetModel.from_pretrained(
        str(control.path),
        local_files_only=True,
        use_safetensors=True,
        variant=control.details["variant"] or None,
        dtype=torch.float32,
    )


def _settle(pipe: Any) -> None:
    pipe.set_progress_bar_config(disable=True)
    for component in pipe.components.values():
        if hasattr(component, "requires_grad_"):
            component.eval().requires_grad_(False)
