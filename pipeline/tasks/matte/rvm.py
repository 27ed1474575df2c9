"""Any ONNX model in the layout of Robust Video Matting (Lin et al. 2022): a picture and four states in, α and four states out.

Its memory is what makes it steady, and what would make a frame depend on where its chunk began. So each frame starts from no memory and
is led up to by the same number of frames before it, whatever the chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError, RunnerError
from pipeline.models.onnx import open_onnx

Float = NDArray[np.float32]

_LONGEST = 512
"""The network's coarse pass works at about so many pixels along the longer side."""
_STATES = ("r1", "r2", "r3", "r4")
_PICTURE = 4
"""Dimensions of what the network takes and gives."""


class Rvm:
    """A loaded model."""

    def __init__(self, path: Path, sha256: str) -> None:
        """Raises: ModelError (no ONNX, or one of another signature)."""
        self._model = open_onnx(path, sha256=sha256)
        wanted = {"src", "downsample_ratio", *(f"{s}i" for s in _STATES)}
        if {p.name for p in self._model.inputs} != wanted:
            raise ModelError(
                f"{path} takes {sorted(p.name for p in self._model.inputs)}, not {sorted(wanted)}", "see RVM's export"
            )

    def matte(self, pictures: Sequence[Float]) -> Float:
        """α of the last picture, (height, width) 0 … 1, after the others led up to it. Each (3, height, width) in model space.

        Raises: RunnerError (what came out is no matte of that size).
        """
        height, width = pictures[-1].shape[1:]
        ratio = np.array([min(1.0, _LONGEST / max(height, width))], np.float32)
        states = {f"{name}i": np.zeros((1, 1, 1, 1), np.float32) for name in _STATES}
        alpha = np.zeros((1, 1, height, width), np.float32)
        for picture in pictures:
            found = self._model.run({"src": np.clip(picture, 0, 1)[None], "downsample_ratio": ratio, **states})
            states = {f"{name}i": found[f"{name}o"] for name in _STATES}
            alpha = found["pha"]
        if alpha.ndim != _PICTURE or alpha.shape[-2:] != (height, width):
            raise RunnerError(
                f"the model gave a matte of {alpha.shape} for a frame of {height} × {width}", "see its export"
            )
        return np.asarray(np.clip(alpha[0, 0], 0, 1), np.float32)
