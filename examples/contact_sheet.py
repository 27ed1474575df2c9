"""A published version at a glance: beauty, matte and overlay of a few frames, side by side, as one PNG.

python examples/contact_sheet.py VERSION_FOLDER OUT.png [--frames 4]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

KINDS = ("beauty", "matte", "overlay")
_GAP = 6


def contact_sheet(version: Path, *, count: int, width: int = 300) -> np.ndarray:
    """(height, width, 3) uint8, BGR: a row for each kind of proxy, a column for each of `count` frames, evenly spread."""
    names = sorted(path.name for path in (version / "proxy" / KINDS[0]).glob("*.jpg"))
    chosen = [names[round(i * (len(names) - 1) / max(1, count - 1))] for i in range(count)]
    rows = []
    for kind in KINDS:
        pictures = [cv2.imread(str(version / "proxy" / kind / name)) for name in chosen]
        scaled = [
            cv2.resize(p, (width, round(width * p.shape[0] / p.shape[1])), interpolation=cv2.INTER_AREA)
            for p in pictures
        ]
        rows.append(np.hstack([np.pad(p, ((0, _GAP), (0, _GAP), (0, 0)), constant_values=24) for p in scaled]))
    return np.vstack(rows)[:-_GAP, :-_GAP]


def main() -> int:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--frames", type=int, default=4)
    arguments = parser.parse_args()
    if not list((arguments.version / "proxy" / KINDS[0]).glob("*.jpg")):
        print(f"{arguments.version} holds no proxies: give a published version's folder", file=sys.stderr)
        return 2
    cv2.imwrite(str(arguments.out), contact_sheet(arguments.version, count=arguments.frames))
    return 0


if __name__ == "__main__":
    sys.exit(main())
