"""Models of transformers from local folders: SAM 2 and ViTMatte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.errors import ModelError
from pipeline.models.facts import SAM2, VITMATTE
from pipeline.models.files import check_sha256
from pipeline.models.inspect import recognise
from pipeline.models.loader import damaged, hush, settle_torch, stay_offline

CLASSES = {"Sam2VideoModel": SAM2, "VitMatteForImageMatting": VITMATTE}
"""Classes that can be opened, and their families. Their processors need torchvision and stay unused: callers prepare arrays."""


def open_transformers(path: Path, class_name: str, *, sha256: str = "") -> Any:
    """The model in float32 on the CPU, in evaluation mode, every weight of it from the folder.

    Raises: ModelError (no such class, another family or hash, code, pickles, missing or misshapen weights).
    """
    if class_name not in CLASSES:
        raise ModelError(f"no model of the class {class_name!r} is loaded", f"known are {', '.join(sorted(CLASSES))}")
    facts = recognise(path, families=(CLASSES[class_name],))
    if sha256:
        check_sha256(path, sha256)
    stay_offline()
    settle_torch()
    import torch
    import transformers

    hush(transformers)
    try:
        model, report = getattr(transformers, class_name).from_pretrained(
            str(path),
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            variant=facts.details["variant"] or None,
            dtype=torch.float32,
            attn_implementation="sdpa" if class_name == "Sam2VideoModel" else "eager",
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, error) from error
    wrong = [*report["missing_keys"], *report["mismatched_keys"]]
    if wrong:
        raise ModelError(
            f"the weights of {path} are not those of its config.json: {len(wrong)} are missing or misshapen, first {wrong[0]}",
            "copy the model's folder again, whole",
        )
    return model.eval().requires_grad_(False)
