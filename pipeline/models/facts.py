"""The families of weights, and what is found of a model before it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

NET = "net"
DIFFUSERS = "diffusers"
SAM2 = "sam2"
VITMATTE = "vitmatte"
SALIENCY_ONNX = "saliency-onnx"
RVM_ONNX = "rvm-onnx"
LORA = "lora"
CONTROLNET = "controlnet"
WORDS = {
    NET: "a net of our own (.safetensors)",
    DIFFUSERS: "a diffusers folder",
    SAM2: "a SAM 2 video folder (transformers)",
    VITMATTE: "a ViTMatte folder (transformers)",
    SALIENCY_ONNX: "an ONNX saliency model (one picture in, mattes out)",
    RVM_ONNX: "an ONNX model in RVM's layout",
}
"""Each family in words."""
NET_KEY = "platewright.net"
"""Key of a net's metadata: which net its tensors are of, as `roto/1`."""
LORA_KEY = "platewright.lora"
"""Key of the metadata of a LoRA that was trained here: JSON with its base's hash, its rank and the prompt it goes with."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What was found. `base`: what a LoRA or ControlNet for it must be made for. `details`: more, for people and reports."""

    family: str
    path: Path
    sha256: str = ""
    base: str = ""
    details: Mapping[str, str] = field(default_factory=dict)
