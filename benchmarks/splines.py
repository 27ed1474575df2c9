"""Mattes to Bezier shapes on real shots: points, keys, overlap with the masks, crossings, time.

    python -m benchmarks.splines [--shots blackswan camel dog dance-twirl] [--bar 0.95] [--sheet FILE.png] [--demo-sheet FILE.jpg]

The mattes are the ground-truth masks of footage/roto_*; the pictures guide the flow. Overlap is measured on the masks at 0.5, on
the whole matte of every frame, with the shapes as they are written. Crossings are looked for on flattenings that the fit itself
doesn't test. The footage lies in PLATEWRIGHT_DATA, or beside the checkout in ../shared/data; without it this says so and stops.
`--demo-sheet` draws the overlay on the demo's own shot and needs no footage.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.roto import data_root, machine
from pipeline.shapes.crossing import crosses
from pipeline.shapes.fit import shapes_of
from pipeline.shapes.raster import flatten, outline_at, rasterise
from pipeline.shapes.values import ShapeReport, ShapeSet

Float = NDArray[np.float32]

SHOTS = ("blackswan", "camel", "dog", "dance-twirl")
_OTHER_FLATTENINGS = (17, 31, 50)
_COLOURS = ((80, 220, 255), (255, 120, 220), (255, 230, 90), (90, 160, 255), (120, 255, 140), (200, 160, 255))


def load_shot(name: str) -> tuple[dict[int, Float], dict[int, Float]]:
    """Masks and grey pictures by frame from 1001."""
    folder = data_root() / "footage" / f"roto_{name}"
    mattes, pictures = {}, {}
    for number, path in enumerate(sorted((folder / "masks").glob("*.png"))):
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        picture = cv2.imread(str(folder / "frames" / f"{path.stem}.jpg"), cv2.IMREAD_GRAYSCALE)
        assert mask is not None and picture is not None, f"{path} or its frame can't be read"
        mattes[1001 + number] = (mask > 127).astype(np.float32)
        pictures[1001 + number] = picture.astype(np.float32) / 255
    return mattes, pictures


def load_demo(count: int = 24) -> tuple[dict[int, Float], dict[int, Float]]:
    """The demo's alpha and its plate, brightened for the eye."""
    from examples.demo_scene import Scene

    scene = Scene(frames=count, width=640, height=360)
    mattes, pictures = {}, {}
    for index in range(count):
        composite = scene.composite(index)
        mattes[1001 + index] = composite.alpha.astype(np.float32)
        plate = composite.foreground + (1 - composite.alpha[..., None]) * composite.background
        pictures[1001 + index] = np.clip(plate.mean(2), 0, 1).astype(np.float32) ** np.float32(1 / 2.2)
    return mattes, pictures


def overlaps(shapes: ShapeSet, mattes: Mapping[int, Float]) -> list[float]:
    """Intersection over union on every frame."""
    found = []
    for frame, matte in mattes.items():
        drawn, truth = rasterise(shapes, frame) >= 0.5, matte >= 0.5
        found.append(np.count_nonzero(drawn & truth) / max(np.count_nonzero(drawn | truth), 1))
    return found


def crossing_frames(shapes: ShapeSet, frames: Sequence[int]) -> int:
    """Frames on which any outline crosses itself."""
    return sum(
        any(
            crosses(outline_at(shapes, shape, frame), _OTHER_FLATTENINGS)
            for shape in shapes.shapes
            if shape.drawn_at(frame)
        )
        for frame in frames
    )


def row(name: str, mode: str, mattes: Mapping[int, Float], shapes: ShapeSet, report: ShapeReport, cpu_s: float) -> str:
    """One line of the table."""
    found = overlaps(shapes, mattes)
    points = [s.points for s in report.shapes]
    main = [s for s in report.shapes if not s.subtract]
    return (
        f"{name:12} {mode:8} | {len(main):3} {len(points) - len(main):3} {max(points):4} | {report.keyed:6.1%} "
        f"{len(report.baked):3} | {np.median(found):.3f} {min(found):.3f} {sum(f < report.bar for f in found):3} | "
        f"{crossing_frames(shapes, list(mattes)):4} | {len(report.dropped):3} {report.holes_closed:3} {report.holes_joined:3} | "
        f"{cpu_s / len(mattes):.2f}"
    )


def sheet(
    mattes: Mapping[int, Float], pictures: Mapping[int, Float], shapes: ShapeSet, *, count: int = 6, width: int = 560
) -> NDArray[np.uint8]:
    """Overlays of `count` frames: outlines, vertices, tangents; a bright border where any shape is keyed."""
    frames = list(mattes)
    tiles = []
    box = _box(mattes.values())
    zoom = width / (box[3] - box[2])
    for frame in (frames[round(i)] for i in np.linspace(0, len(frames) - 1, count)):
        crop = pictures[frame][box[0] : box[1], box[2] : box[3]]
        tile = cv2.resize((crop * 170).astype(np.uint8), None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
        tile = cv2.cvtColor(tile, cv2.COLOR_GRAY2BGR)
        keyed = 0
        for number, shape in enumerate(shapes.shapes):
            if shape.drawn_at(frame):
                keyed += frame in shape.keys
                _draw(tile, (outline_at(shapes, shape, frame)[:, :3] - (box[2], box[0])) * zoom, _COLOURS[number % 6])
        border = (60, 200, 255) if keyed else (70, 70, 70)
        cv2.rectangle(tile, (0, 0), (tile.shape[1] - 1, tile.shape[0] - 1), border, 2)
        text = f"{frame}" + (f"  {keyed} keyed" if keyed else "")
        cv2.putText(tile, text, (8, tile.shape[0] - 10), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
        tiles.append(tile)
    return np.vstack([np.hstack(tiles[i : i + 3]) for i in range(0, count, 3)])


def _box(mattes: object) -> tuple[int, int, int, int]:
    whole = np.max(np.stack(list(mattes)), axis=0) > 0.1  # type: ignore[call-overload]
    rows, columns = np.flatnonzero(whole.any(1)), np.flatnonzero(whole.any(0))
    return (
        max(0, int(rows[0]) - 8),
        min(whole.shape[0], int(rows[-1]) + 9),
        max(0, int(columns[0]) - 8),
        min(whole.shape[1], int(columns[-1]) + 9),
    )


def _draw(tile: NDArray[np.uint8], control: NDArray[np.float64], colour: tuple[int, int, int]) -> None:
    def spot(point: NDArray[np.float64]) -> tuple[int, int]:
        return round(float(point[0]) * 8), round(float(point[1]) * 8)

    cv2.polylines(tile, [np.round(flatten(control) * 8).astype(np.int32)], True, colour, 1, cv2.LINE_AA, shift=3)
    for vertex, into, out in control:
        for handle in (into, out):
            cv2.line(tile, spot(vertex), spot(handle), (200, 200, 200), 1, cv2.LINE_AA, shift=3)
        cv2.circle(tile, spot(vertex), 18, colour, -1, cv2.LINE_AA, shift=3)


def demo_sheet(path: Path) -> None:
    """The overlay on the demo's shot, as a file of its own."""
    mattes, pictures = load_demo()
    shapes, report = shapes_of(mattes, name="astronaut", pictures=pictures)
    print(HEADER)
    print(row("demo", "few", mattes, shapes, report, report.seconds), flush=True)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 82] if path.suffix.lower() in (".jpg", ".jpeg") else []
    cv2.imwrite(str(path), sheet(mattes, pictures, shapes), quality)


HEADER = (
    "                      | shapes  most | keyed      | IoU             | self | dropped,    | CPU s\n"
    "shot         keys     | add sub pts  |        bkd | med   worst <bar | X-ing| closed,joined| a frame"
)


def main() -> int:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shots", nargs="+", default=list(SHOTS))
    parser.add_argument("--bar", type=float, default=0.95)
    parser.add_argument("--sheet", type=Path, help="write the overlays of the last shot here (.png)")
    parser.add_argument("--demo-sheet", type=Path, help="only draw the demo's shot, to this file")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.demo_sheet:
        demo_sheet(options.demo_sheet)
        return 0
    missing = [s for s in options.shots if not (data_root() / "footage" / f"roto_{s}").is_dir()]
    if missing:
        print(f"skipped: no footage of {', '.join(missing)} in {data_root()}; set PLATEWRIGHT_DATA to where it lies")
        return 0
    print(HEADER)
    for name in options.shots:
        mattes, pictures = load_shot(name)
        for mode, few in (("every", False), ("few", True)):
            began = time.process_time()
            shapes, report = shapes_of(mattes, name=name, pictures=pictures, bar=options.bar, few_keys=few)
            print(row(name, mode, mattes, shapes, report, time.process_time() - began), flush=True)
        if options.sheet:
            cv2.imwrite(str(options.sheet), sheet(mattes, pictures, shapes))
    print(machine())
    return 0


if __name__ == "__main__":
    sys.exit(main())
