"""Half floats to float32 and back, fast and with a word when a value doesn't fit."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import PlateError

if TYPE_CHECKING:
    from numpy.typing import NDArray

HALF_MAX = 65504.0


def to_float(source: NDArray[Any], out: NDArray[np.float32]) -> None:
    """Copy half, float or uint samples into `out`, of the same shape; 5 ms a UHD channel where torch is loaded, else 30."""
    # NumPy converts halves one by one. Importing torch for this alone would cost seconds; a session child has it anyway.
    torch = sys.modules.get("torch")
    if torch is not None and source.dtype == np.float16 and source.flags.writeable:
        torch.from_numpy(out).copy_(torch.from_numpy(source))
    else:
        out[...] = source


def to_half(source: NDArray[Any], *, channel: str) -> NDArray[np.float16]:
    """Round to half. NaN and infinities that are there already stay.

    Raises: PlateError (a finite value beyond 65504 would become infinite; names the channel and the first pixel).
    """
    if source.dtype == np.float16:
        return source
    with np.errstate(over="ignore", invalid="ignore"):
        half = source.astype(np.float16)
    grown = np.isinf(half)
    if grown.any():
        grown &= np.isfinite(source)
        if grown.any():
            y, x = np.argwhere(grown)[0]
            raise PlateError(
                f"channel {channel}: {int(grown.sum())} values don't fit into half, the first is {source[y, x]:.6g} at x {x}, y {y}",
                f"half ends at {HALF_MAX:.0f}: keep the channel float, or find out what made them",
            )
    return half
