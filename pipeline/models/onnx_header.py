"""What an ONNX file takes and gives, read from its protobuf by hand: no library parses a stranger's file before this has.

Field numbers are those of onnx.proto (ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto, ValueInfoProto).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ModelError
from pipeline.models.files import refuse_pickle
from pipeline.models.protobuf import WireError, fields, message, text

_TYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    16: "bfloat16",
}
"""TensorProto.DataType."""
_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Operators that the runtime itself brings; any other needs a library, which is code."""
_DEEPEST = 16
_MOST_NODES = 500_000
_EXTERNAL = 1
"""TensorProto.DataLocation.EXTERNAL."""


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output: `shape` has a number for a fixed side, None for one that is free; `()` when it isn't said."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        sides = ",".join("?" if n is None else str(n) for n in self.shape)
        return f"{self.name} {self.dtype}[{sides}]"


@dataclass(frozen=True, slots=True)
class OnnxHeader:
    """A graph's inputs, without those that are weights, its outputs, and the file's own notes."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    metadata: Mapping[str, str]


def read_onnx(path: Path) -> OnnxHeader:
    """Walk the file's graph once.

    Raises: ModelError (unreadable, a pickle, no ONNX, weights in other files, operators that need a library of their own).
    """
    refuse_pickle(path)
    try:
        with path.open("rb") as file:
            # Closed when the last view of it goes: a fault's traceback may still hold some.
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return _Walk(path).model(memoryview(data))
    except (OSError, ValueError) as error:
        # An empty file can't be mapped: ValueError, as WireError is.
        raise ModelError(f"{path} is no ONNX model: {error}", "export it anew, as one .onnx file") from error


class _Walk:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.nodes = 0
        self.domains: set[str] = set()

    def model(self, data: memoryview) -> OnnxHeader:
        header: OnnxHeader | None = None
        own: set[str] = set()
        notes: dict[str, str] = {}
        found = {number: [] for number in (7, 14, 25)}  # type: dict[int, list[memoryview]]
        for number, value in fields(data):
            if number in found:
                found[number].append(message(value))
        for function in found[25]:
            own |= {text(v) for n, v in fields(function) if n == 10}
            for number, value in fields(function):
                if number == 7:
                    self.node(message(value), 1)
        for graph in found[7]:
            header = self.graph(graph, 0)
        if header is None or not header.outputs:
            raise WireError("it has no graph with an output")
        for prop in found[14]:
            pair = {n: text(v) for n, v in fields(prop) if n in (1, 2)}
            notes[pair.get(1, "")] = pair.get(2, "")
        if strange := sorted(self.domains - _DOMAINS - own):
            raise ModelError(
                f"{self.path} has operators of {', '.join(strange)}, which need a library of their own",
                "export it with standard operators only",
            )
        return OnnxHeader(header.inputs, header.outputs, notes)

    def graph(self, data: memoryview, depth: int) -> OnnxHeader:
        if depth > _DEEPEST:
            raise WireError("its graphs are nested too deep")
        inputs: list[Port] = []
        outputs: list[Port] = []
        weights: set[str] = set()
        for number, value in fields(data):
            if number == 1:
                self.node(message(value), depth)
            elif number == 5:
                weights.add(self.tensor(message(value)))
            elif number == 15:
                self.sparse(message(value))
            elif number == 11:
                inputs.append(_port(message(value)))
            elif number == 12:
                outputs.append(_port(message(value)))
        return OnnxHeader(tuple(p for p in inputs if p.name not in weights), tuple(outputs), {})

    def node(self, data: memoryview, depth: int) -> None:
        self.nodes += 1
        if self.nodes > _MOST_NODES:
            raise WireError(f"it has more than {_MOST_NODES} nodes")
        domain = ""
        for number, value in fields(data):
            if number == 7:
                domain = text(value)
            elif number == 5:
                self.attribute(message(value), depth)
        self.domains.add(domain)

    def attribute(self, data: memoryview, depth: int) -> None:
        for number, value in fields(data):
            if number in (5, 10):
                self.tensor(message(value))
            elif number in (6, 11):
                self.graph(message(value), depth + 1)
            elif number in (22, 23):
                self.sparse(message(value))

    def sparse(self, data: memoryview) -> None:
        for number, value in fields(data):
            if number in (1, 2):
                self.tensor(message(value))

    def tensor(self, data: memoryview) -> str:
        """The tensor's name. Refuses one whose bytes lie in another file: the hash wouldn't cover it."""
        name = ""
        for number, value in fields(data):
            if number == 8:
                name = text(value)
            elif number == 13 or (number == 14 and value == _EXTERNAL):
                raise ModelError(f"{self.path} keeps weights in other files", "export it as one file, weights inside")
        return name


def _port(data: memoryview) -> Port:
    name, dtype, shape = "", "?", ()  # type: str, str, tuple[int | None, ...]
    for number, value in fields(data):
        if number == 1:
            name = text(value)
        elif number == 2:
            for tensor in _only(message(value), 1):
                for kind, inner in fields(tensor):
                    if kind == 1 and isinstance(inner, int):
                        dtype = _TYPES.get(inner, f"type {inner}")
                    elif kind == 2:
                        shape = tuple(_side(dim) for dim in _only(message(inner), 1))
    return Port(name, dtype, shape)


def _side(dim: memoryview) -> int | None:
    for number, value in fields(dim):
        if number == 1 and isinstance(value, int) and 0 < value < 1 << 31:
            return value
    return None


def _only(data: memoryview, wanted: int) -> Iterator[memoryview]:
    return (message(value) for number, value in fields(data) if number == wanted)
