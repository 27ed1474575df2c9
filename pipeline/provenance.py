"""How a version came to be: everything that is needed to judge it, and to make it again.

The record is plain JSON, its keys sorted, written beside the frames as `<version name>.json`. Input hashes are those of
`pipeline.media.exr.pixel_hash`: of what a frame holds, not of a file's bytes.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

SCHEMA = "platewright.provenance/1"
_DISTRIBUTIONS = (
    "platewright", "numpy", "OpenEXR", "openimageio", "opencolorio", "opencv-python-headless", "opentimelineio",
    "pyblish-base", "torch", "diffusers", "transformers", "onnxruntime", "safetensors",
)  # fmt: skip
"""What may change a pixel from one release to the next; those that aren't installed are left out."""


def record(
    *,
    job: int | str,
    spec: Mapping[str, Any],
    take: Mapping[str, Any],
    model: Mapping[str, Any],
    fit: Mapping[str, Any],
    timings: Mapping[str, float],
    now: datetime | None = None,
) -> dict[str, Any]:
    """The facts of one take's version, as JSON values.

    `spec` is the job's `JobSpec` and `take` its `TakeSpec`, both as JSON; `model` the model card, or its reference;
    `fit` what the per-shot fit reported; `timings` seconds by name; `now` the time of the record, in UTC.
    """
    plate = spec["plate"]
    edit = spec.get("edit")
    keys: dict[str, dict[str, Any]] = {}
    for key in spec.get("keys", ()):
        facts = {name: key[name] for name in ("path", "hash", "coverage") if name in key}
        keys.setdefault(key["object"], {})[str(key["frame"])] = facts
    made = {
        "schema": SCHEMA,
        "job": job,
        "task": spec["task"],
        "user": spec.get("user", ""),
        "use": spec.get("use", ""),
        "policy": spec.get("policy", {}),
        "preset": spec.get("preset", ""),
        "shot": {name: spec.get(name, "") for name in ("studio", "show", "sequence", "shot")},
        "take": {name: take[name] for name in ("index", "name") if name in take},
        "parameters": take["parameters"],
        "seed": take["seed"],
        "model": model,
        "weights": take.get("weights", {}),
        "fit": fit,
        "keys": keys,
        "inputs": {
            **{name: plate.get(name) for name in ("pattern", "colorspace", "source_colorspace", "rate", "timecode")},
            "frames": spec["frames"],
            "hashes": {str(frame): digest for frame, digest in spec.get("input_hashes", {}).items()},
        },
        "edit": edit and {"timeline": spec.get("cut_path"), "sha256": spec.get("cut_sha256"), "context": edit},
        "timings": timings,
        "software": software(),
        "created": (now or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds"),
    }
    plain: dict[str, Any] = to_plain(made)
    return plain


@cache
def software() -> dict[str, str]:
    """Versions of what made the pixels: Python, the platform and every installed package that counts."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def to_plain(value: Any) -> Any:
    """The JSON value of a plain value: keys sorted as text, paths as text, numbers that JSON hasn't (NaN, inf) as null.

    Raises: TypeError (anything else).
    """
    if isinstance(value, Mapping):
        return {str(key): to_plain(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a record holds plain values, not {type(value).__name__}")


def to_text(record: Mapping[str, Any]) -> str:
    """A record as it is written: the same record gives the same text."""
    return json.dumps(to_plain(record), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
