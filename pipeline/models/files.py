"""What a weights file is, told from its bytes without running any of it.

safetensors and ONNX hold numbers and a description; a pickle holds a program that runs when it is read, whatever its name
says. So pickles are refused by suffix and by their first bytes, and a header is believed only after its sums come out.
The safetensors layout: eight bytes of length, little endian; that much JSON; then the tensors' bytes, end to end.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import ModelError

PICKLED = frozenset({".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle", ".pt2", ".pte", ".joblib", ".npy", ".npz"})
"""Suffixes of files that hold a pickle, a program, or may."""
LOADED = frozenset({".json", ".safetensors", ".txt", ".model"})
"""What a loader reads of a folder: its hash is of these."""
_MAGIC = {
    b"PK\x03\x04": "a zip archive, as torch.save and torch.export write it",
    b"\x80\x02": "a pickle",
    b"\x80\x03": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"\x93NUMPY": "a NumPy array, which may hold a pickle",
    b"\x89HDF": "an HDF5 file",
}
_SAFE_HINT = "save it as safetensors, or export it to ONNX, on a machine where running it does no harm"
_LONGEST_HEADER = 32 << 20
_MOST_TENSORS = 100_000
_MOST_FILES = 2_000
_LONGEST_JSON = 64 << 20
_WIDTHS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
"""Bits of a value of each type."""


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """One tensor of a header."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    """What a safetensors file says of itself, checked against its size."""

    tensors: Mapping[str, TensorFacts]
    metadata: Mapping[str, str]


def refuse_pickle(path: Path) -> None:
    """Raises: ModelError when the suffix or the first bytes are those of a file that runs code when it is read."""
    if path.suffix.lower() in PICKLED:
        raise ModelError(f"weights {path}: {path.suffix} files can hold code, so they are never loaded", _SAFE_HINT)
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise _unreadable(path, error) from error
    for magic, what in _MAGIC.items():
        if start.startswith(magic):
            raise ModelError(f"weights {path} are {what}, whatever the name says: that can hold code", _SAFE_HINT)


def read_header(path: Path) -> SafetensorsHeader:
    """The header of a safetensors file, and nothing else of it.

    Raises: ModelError (unreadable, a pickle, a header too long, cut off or no JSON, tensors that overlap, leave gaps, don't
    fill the file, or whose bytes don't agree with their shape).
    """
    refuse_pickle(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(9)
            length = int.from_bytes(start[:8], "little")
            if len(start) < 9 or start[8:] != b"{":
                raise _broken(path, "it doesn't begin like safetensors")
            if length > _LONGEST_HEADER or length + 8 > size:
                raise _broken(path, f"its header claims {length} bytes of {size}")
            text = start[8:] + file.read(length - 1)
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        entries = json.loads(text, object_pairs_hook=_no_twins)
    except (ValueError, RecursionError) as error:
        raise _broken(path, f"its header is no JSON: {error}") from error
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _broken(path, "its metadata are not texts")
    if len(entries) > _MOST_TENSORS:
        raise _broken(path, f"it claims {len(entries)} tensors")
    return SafetensorsHeader(_tensors(path, entries, size - 8 - length), metadata)


def _tensors(path: Path, entries: Mapping[str, Any], room: int) -> dict[str, TensorFacts]:
    """The entries as facts, once they are found to cover `room` bytes exactly, in some order and without overlap."""
    found: dict[str, TensorFacts] = {}
    spans: list[tuple[int, int, str]] = []
    for name, entry in entries.items():
        try:
            dtype, shape = entry["dtype"], entry["shape"]
            begin, end = entry["data_offsets"]
        except (TypeError, KeyError, ValueError) as error:
            raise _broken(path, f"tensor {name!r} has no dtype, shape and offsets") from error
        numbers = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in [*shape, begin, end])
        if dtype not in _WIDTHS or not numbers:
            raise _broken(path, f"tensor {name!r} has the type {dtype!r} and the shape {shape!r}")
        if (end - begin) * 8 != math.prod(shape) * _WIDTHS[dtype]:
            raise _broken(path, f"tensor {name!r} of shape {shape} claims {end - begin} bytes")
        spans.append((begin, end, name))
        found[name] = TensorFacts(dtype, tuple(shape))
    at = 0
    for begin, end, name in sorted(spans):
        if begin != at:
            raise _broken(
                path, f"tensor {name!r} begins at {begin}, where {at} was to come: tensors overlap or leave gaps"
            )
        at = end
    if at != room:
        raise _broken(path, f"its tensors end at {at} of {room} bytes")
    return found


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a name appears twice")
    return out


def read_json(path: Path) -> dict[str, Any]:
    """A folder's JSON file. Raises: ModelError (unreadable, longer than 64 MiB, no JSON object)."""
    try:
        if path.stat().st_size > _LONGEST_JSON:
            raise ModelError(f"{path} has more than {_LONGEST_JSON >> 20} MiB", "this is no configuration of a model")
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise _unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is no JSON: {error}", "copy the model's folder again, whole") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds no JSON object", "copy the model's folder again, whole")
    return value


def walk(folder: Path) -> Iterator[Path]:
    """The files of a model's folder, sorted, dotfiles and what lies under them left out.

    Links may lead to files of the folder itself, or to `blobs` two folders up, where download caches keep the content.
    Raises: ModelError (unreadable, a link that leads elsewhere, too many files).
    """
    homes = (folder.resolve(), folder.resolve().parent.parent / "blobs")
    found: list[Path] = []
    waiting = [folder]
    try:
        while waiting:
            for path in waiting.pop().iterdir():
                if path.name.startswith("."):
                    continue
                target = path.resolve()
                if path.is_symlink() and (target.is_dir() or not any(target.is_relative_to(home) for home in homes)):
                    raise ModelError(f"{path} links to {target}, outside of the model", "copy the file into the folder")
                if path.is_dir():
                    waiting.append(path)
                elif path.is_file():
                    found.append(path)
                if len(found) + len(waiting) > _MOST_FILES:
                    raise ModelError(f"{folder} has more than {_MOST_FILES} files", "name the folder of one model")
    except OSError as error:
        raise _unreadable(folder, error) from error
    yield from sorted(found, key=lambda p: p.relative_to(folder).as_posix())


def sha256_of(path: Path) -> str:
    """The sha256 of a file; of a folder, that of its files' names and hashes: see `LOADED` and `walk`.

    A folder's is that of the lines `sha256  name\\n`, sorted by name, as `sha256sum` prints them. Raises: ModelError.
    """
    if path.is_dir():
        names = [p for p in walk(path) if p.suffix.lower() in LOADED]
        lines = [f"{sha256_of(p)}  {p.relative_to(path).as_posix()}\n" for p in names]
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def check_sha256(path: Path, sha256: str) -> str:
    """The sha256 of a file or folder. Raises: ModelError (unreadable, or another than the one expected)."""
    found = sha256_of(path)
    if sha256 and found != sha256.strip().lower():
        raise ModelError(
            f"weights {path} have the sha256 {found[:12]}…, expected {sha256.strip().lower()[:12]}…",
            "the file was changed or only partly copied: install it again",
        )
    return found


def _unreadable(path: Path, error: OSError) -> ModelError:
    return ModelError(f"weights {path} can't be read: {error.strerror}", "check the path and its permissions")


def _broken(path: Path, why: str) -> ModelError:
    return ModelError(f"weights {path} are no whole safetensors file: {why}", "copy the file again, or convert it anew")
