"""How weights are loaded, whatever their family: from local paths alone, with the farm's threads, the same bits every time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pipeline.errors import ModelError


def threads() -> int:
    """PLATEWRIGHT_THREADS, 1 when it isn't set: slots that share a machine would otherwise fight for its cores.

    Raises: ModelError (no whole number from 1 up).
    """
    text = os.environ.get("PLATEWRIGHT_THREADS", "1")
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ModelError(f"PLATEWRIGHT_THREADS is {text!r}", "set it to a whole number from 1 up, or leave it out")
    return int(text)


def settle_torch() -> None:
    """torch with the farm's threads and deterministic algorithms. Raises: ModelError (see `threads`)."""
    count = threads()
    import torch

    torch.set_num_threads(count)
    torch.use_deterministic_algorithms(True)
    # A debugging aid that costs a pass over every new tensor. The stub doesn't know it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def stay_offline() -> None:
    """Tell the libraries that there is no hub. Called before they are imported; loading asks for local files only besides."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "DIFFUSERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
        os.environ[name] = "1"


def hush(library: Any) -> None:
    """No progress bars and no advice from a library on the session's log; its errors are raised anyway."""
    library.utils.logging.set_verbosity_error()
    library.utils.logging.disable_progress_bar()


def damaged(path: Path, error: Exception) -> ModelError:
    """What a library's refusal to load weights means for a person."""
    why = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    return ModelError(f"the model {path} can't be loaded: {why}", "copy its folder again, whole, or try another model")
