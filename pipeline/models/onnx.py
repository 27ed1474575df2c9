"""ONNX models on the CPU, from local files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RunnerError
from pipeline.models.files import check_sha256
from pipeline.models.loader import damaged, threads
from pipeline.models.onnx_header import Port, read_onnx

_DTYPES: dict[str, Any] = {
    "float32": np.float32, "float16": np.float16, "float64": np.float64, "uint8": np.uint8, "int8": np.int8,
    "int32": np.int32, "int64": np.int64, "bool": np.bool_,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """A loaded model. `inputs` and `outputs` in the file's order; `notes` is the file's own metadata."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    notes: Mapping[str, str]
    _session: Any

    def run(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Output name → array, for input name → array. Inputs become the type that the model takes.

        Raises: RunnerError (an input missing or unknown, a shape that the model refuses).
        """
        names = {p.name for p in self.inputs}
        if set(arrays) != names:
            raise RunnerError(f"the model takes {sorted(names)}, it got {sorted(arrays)}", "name every input once")
        feed = {p.name: np.ascontiguousarray(arrays[p.name], _DTYPES.get(p.dtype)) for p in self.inputs}
        try:
            found = self._session.run(None, feed)
        except Exception as error:  # the runtime's own exceptions share no base but this
            raise RunnerError(
                f"the ONNX model failed: {str(error).splitlines()[0][:300]}", "see its input sizes"
            ) from error
        return {p.name: np.asarray(a) for p, a in zip(self.outputs, found, strict=True)}


def open_onnx(path: Path, *, sha256: str = "") -> OnnxModel:
    """Load a file on the CPU with PLATEWRIGHT_THREADS threads: the same input gives the same bits.

    Raises: ModelError (a pickle, another hash, no ONNX, weights in other files, operators that aren't known).
    """
    header = read_onnx(path)
    if sha256:
        check_sha256(path, sha256)
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads()
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own exceptions share no base but this
        raise damaged(path, error) from error
    return OnnxModel(header.inputs, header.outputs, header.metadata, session)
