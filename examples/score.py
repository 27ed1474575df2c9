"""How good a published matte is: its `matte.A` against the demo's exact alpha, on the frames that were no keys.

    python examples/score.py PUBLISHED_FOLDER demo/truth

J is the overlap at a half and F the agreement of the contours, as DAVIS has them (see `pipeline.quality.overlap`). Both
are blind to softness, so the mean absolute error of the alpha stands beside them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import PipelineError, PlateError
from pipeline.frames import FrameRange
from pipeline.media.exr import read_frame
from pipeline.media.sequence import find_sequence
from pipeline.quality.overlap import contour_accuracy, region_similarity

Image = npt.NDArray[np.float32]


def score(published_folder: Path, truth_folder: Path, *, keys: Iterable[int] | None = None) -> dict[str, Any]:
    """Every frame's measures, their means and the worst frame, as plain JSON.

    `keys` are left out; without them, those of the `demo.json` beside the truth's folder are.
    Raises: PlateError (a frame without a partner, no `matte.A`, another size, nothing but keys).
    """
    published, published_frames = find_sequence(str(published_folder))
    truth, truth_frames = find_sequence(str(truth_folder))
    if missing := truth_frames - published_frames:
        raise PlateError(f"{published_folder} has no frames {missing}", "score a version of the whole plate")
    known = FrameRange.of(_keys_beside(truth_folder) if keys is None else keys)
    held_out = truth_frames - known
    if not held_out:
        raise PlateError(
            f"{truth_folder} holds nothing but keys", "keys are given, so they say nothing about the matte"
        )
    rows = []
    for frame in held_out:
        matte, alpha = _channel(published.path(frame), "matte.A"), _channel(truth.path(frame), "A")
        if matte.shape != alpha.shape:
            raise PlateError(
                f"frame {frame}: the matte is {_size(matte)}, the truth {_size(alpha)}", "score one demo's own folders"
            )
        j, f = region_similarity(matte, alpha), contour_accuracy(matte, alpha)
        rows.append({"frame": frame, "J": j, "F": f, "mae": float(np.abs(matte - alpha).mean())})
    means = {name: float(np.mean([row[name] for row in rows])) for name in ("J", "F", "mae")}
    return {**means, "worst": min(rows, key=lambda row: row["J"]), "keys": list(known), "frames": rows}


def _keys_beside(truth_folder: Path) -> list[int]:
    manifest = truth_folder.parent / "demo.json"
    if not manifest.is_file():
        raise PlateError(f"no {manifest}, so the keys aren't known", "give the keys, or the truth folder inside a demo")
    return [int(frame) for frame in json.loads(manifest.read_text(encoding="utf-8"))["keys"]]


def _channel(path: Path, name: str) -> Image:
    for part in read_frame(path, only={name}).parts:
        if name in part.channels:
            return np.asarray(part.channels[name], np.float32)
    raise PlateError(f"{path} has no channel {name}", "give the folder of a published roto version")


def _size(image: Image) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"


def table(scored: dict[str, Any]) -> str:
    """The scores for a person: each frame, then the means."""
    lines = [f"{'frame':>6} {'J':>7} {'F':>7} {'error':>8}"]
    worst = scored["worst"]["frame"]
    for row in scored["frames"]:
        mark = "  worst" if row["frame"] == worst else ""
        lines.append(f"{row['frame']:>6} {row['J']:>7.3f} {row['F']:>7.3f} {row['mae']:>8.4f}{mark}")
    lines.append(f"{'mean':>6} {scored['J']:>7.3f} {scored['F']:>7.3f} {scored['mae']:>8.4f}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Score a published matte against the demo's exact alpha.")
    parser.add_argument("published", type=Path, help="folder of the published version")
    parser.add_argument("truth", type=Path, help="the demo's truth folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args(argv)
    try:
        scored = score(given.published, given.truth)
    except PipelineError as error:
        print(f"{error.message}\n{error.hint}", file=sys.stderr)
        return 2
    print(json.dumps(scored) if given.json else table(scored))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
