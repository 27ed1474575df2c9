"""Mattes against exact truth: composites made here of a hairy subject, beside the usual baselines.

    python -m benchmarks.matte [--clip-ground train_car-roundabout] [--sheet DIR] [--large]

The subject (footage/matting_lemur, with its alpha and its own colours) is put over three grounds as stills and moved, turned and bent over
footage as a clip of 24 frames, with grain. Composites are made in scene-linear, as light mixes. A still's roto is its true alpha, cut at
.5; the clip's is off by a smooth two pixels, another way on every frame, as tracked rotos are. The footage lies in PLATEWRIGHT_DATA, or
beside the checkout in ../shared/data; without it this says so and stops.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.roto import data_root, machine
from pipeline.media.transform import HybridCurve
from pipeline.memory_shot import MemoryShot
from pipeline.quality.matting import MatteScore, dtssd, mean_score, recomposite_error, score_matte
from pipeline.tasks.contract import FrameResult, ModelRef
from pipeline.tasks.matte.definition import MatteParameters
from pipeline.tasks.matte.foreground import estimate_foreground
from pipeline.tasks.matte.prior import from_trimap
from pipeline.tasks.matte.refine import guided, refine
from pipeline.tasks.matte.runner import MatteRunner

Float = NDArray[np.float32]

CURVE = HybridCurve(peak=1.0)
GROUNDS = (("roto_camel", 5), ("moving_bedroom", 10), ("roto_dance-twirl", 3))
NEW_GROUND = tuple(float(x) for x in CURVE.inverse(np.array([0.1, 0.6, 0.1], np.float32)))
"""What the subject is put on to judge its colours; (.1, .6, .1) as displayed."""
SCREENS = {"green": (0.06, 0.38, 0.09), "blue": (0.05, 0.09, 0.40)}
CLIP_FRAMES = 24
CLIP_SIZE = (854, 480)
SCORED = range(4, 22)
"""Frames of the clip that count: near its ends, where rotos are exact, all is easier."""
ROTO_ERROR_PX = 2.0
GRAIN = 1.5 / 255
BARS = "bars: SAD 1.8, Grad 10, foreground 3.5, dtSSD 4.5"


@dataclass(slots=True)
class Plate:
    """Frames of exact truth. `rgb`, `fore` (3, height, width) scene-linear; `alpha`, `roto` (height, width)."""

    rgb: dict[int, Float] = field(default_factory=dict)
    fore: dict[int, Float] = field(default_factory=dict)
    alpha: dict[int, Float] = field(default_factory=dict)
    roto: dict[int, Float] = field(default_factory=dict)


def read(path: Path) -> Float:
    """(height, width, 3) scene-linear."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    assert picture is not None, f"{path} can't be read"
    return CURVE.inverse(picture.astype(np.float32) / 255)


def grey(path: Path) -> Float:
    """(height, width), 0 … 1, as stored."""
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert picture is not None, f"{path} can't be read"
    return picture.astype(np.float32) / 255


def planar(picture: Float) -> Float:
    """(height, width, 3) to (3, height, width)."""
    return np.ascontiguousarray(picture.transpose(2, 0, 1))


def frame_of(name: str, number: int, size: tuple[int, int]) -> Float:
    """A frame of footage, (height, width, 3) scene-linear, at that size."""
    paths = sorted((data_root() / "footage" / name / "frames").glob("*"))
    picture = cv2.imread(str(paths[number]), cv2.IMREAD_COLOR_RGB)
    assert picture is not None, f"{paths[number]} can't be read"
    return CURVE.inverse(cv2.resize(picture, size).astype(np.float32) / 255)


def captured(linear: Float, rng: np.random.Generator | None) -> Float:
    """As a camera's 8 bits give it back, with grain where `rng` is given; scene-linear half, as an EXR holds it."""
    shown = CURVE.forward(linear)
    if rng is not None:
        shown = shown + rng.normal(0, GRAIN, shown.shape).astype(np.float32)
    stored = np.round(np.clip(shown, 0, 1) * 255).astype(np.float32) / 255
    return CURVE.inverse(stored).astype(np.float16).astype(np.float32)


def subject() -> tuple[Float, Float]:
    """The lemur's own colours, (height, width, 3) scene-linear, and its alpha."""
    folder = data_root() / "footage" / "matting_lemur"
    return read(folder / "lemur_foreground.png"), grey(folder / "lemur_alpha.png")


def still(behind: Float, rng: np.random.Generator | None = None) -> Plate:
    """The subject over a ground, as a plate of one frame."""
    fore, alpha = subject()
    a = alpha[..., None]
    rgb = captured(fore * a + behind * (1 - a), rng)
    return Plate({1: planar(rgb)}, {1: planar(fore)}, {1: alpha}, {1: (alpha > 0.5).astype(np.float32)})


def clip(ground: str, seed: int = 0) -> Plate:
    """The subject moved, scaled, turned and bent over footage; frames from 0."""
    rng = np.random.default_rng(seed)
    fore, alpha = subject()
    width, height = CLIP_SIZE
    bends = [_smooth_field(rng, 5) for _ in range(2)]
    plate = Plate()
    for t in range(CLIP_FRAMES):
        u = t / (CLIP_FRAMES - 1)
        turn = cv2.getRotationMatrix2D((340, 230), 12 * np.sin(5 * u), 0.95 * (1 + 0.25 * np.sin(3 * u)))
        turn[:, 2] += (width * (0.35 + 0.3 * u) - 340, height * 0.55 + 15 * np.sin(7 * u) - 230)
        bend = ((bends[0] * np.cos(6 * u) + bends[1] * np.sin(6 * u)) * 6).astype(np.float32)
        f = _bent(cv2.warpAffine(fore, turn, CLIP_SIZE, borderMode=cv2.BORDER_REPLICATE), bend, cv2.BORDER_REPLICATE)
        a = np.clip(_bent(cv2.warpAffine(alpha, turn, CLIP_SIZE), bend, cv2.BORDER_CONSTANT), 0, 1)
        behind = frame_of(ground, t, CLIP_SIZE)
        plate.rgb[t] = planar(captured(f * a[..., None] + behind * (1 - a[..., None]), rng))
        plate.fore[t], plate.alpha[t] = planar(f), a
    for t in range(CLIP_FRAMES):
        roto = (plate.alpha[t] > 0.5).astype(np.float32)
        if 0 < t < CLIP_FRAMES - 1:
            roto = _bent(roto, _smooth_field(rng, 8) * np.float32(ROTO_ERROR_PX), cv2.BORDER_REPLICATE)
        plate.roto[t] = roto
    return plate


def _smooth_field(rng: np.random.Generator, cells: int) -> Float:
    coarse = rng.normal(0, 1, (cells, cells, 2)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, CLIP_SIZE, interpolation=cv2.INTER_CUBIC), np.float32)


def _bent(plane: Float, field_px: Float, border: int) -> Float:
    x, y = np.meshgrid(np.arange(CLIP_SIZE[0], dtype=np.float32), np.arange(CLIP_SIZE[1], dtype=np.float32))
    return cv2.remap(plane, x + field_px[..., 0], y + field_px[..., 1], cv2.INTER_LINEAR, borderMode=border)


Mattes = dict[int, Float]
Method = Callable[[Plate], tuple[Mattes, dict[int, Float]]]
"""Plate to mattes and foregrounds, (3, height, width); a method without colours of its own gives the plate's."""


def product(*, roto: bool = True, **parameters: object) -> Method:
    """The task itself; the plate's rotos lie in it as its layer `matte`."""

    def made(plate: Plate) -> tuple[Mattes, dict[int, Float]]:
        masks = {"trimap": dict.fromkeys(plate.rgb, artists_trimap())} if parameters.get("source") == "trimap" else {}
        layers = {"matte": plate.roto} if roto else {}
        with tempfile.TemporaryDirectory() as folder:
            given = MatteParameters.model_validate(parameters)
            shot = MemoryShot(plate=plate.rgb, parameters=given, folder=Path(folder), layers=layers, masks=masks)
            results = list(runner().run(shot))
        return {r.frame: r.layers["matte"]["A"] for r in results}, {r.frame: straight(r) for r in results}

    return made


def straight(result: FrameResult) -> Float:
    """The foreground before it was premultiplied, where there is any."""
    assert result.rgb is not None and result.alpha is not None
    return result.rgb / np.maximum(result.alpha, 1e-4)


def runner() -> MatteRunner:
    """Loaded with the default."""
    made = MatteRunner()
    made.load(ModelRef())
    return made


def alone(matte: Callable[[Float, Float], Float]) -> Method:
    """A baseline that gives a matte of (rgb, roto) and no colours. rgb (height, width, 3) scene-linear."""

    def made(plate: Plate) -> tuple[Mattes, dict[int, Float]]:
        found = {f: matte(np.ascontiguousarray(rgb.transpose(1, 2, 0)), plate.roto[f]) for f, rgb in plate.rgb.items()}
        return found, dict(plate.rgb)

    return made


def blurred(sigma: float) -> Method:
    """The roto, feathered."""
    return alone(lambda _, roto: cv2.GaussianBlur(roto, (0, 0), sigma))


def closed_form_of_band(rgb: Float, roto: Float) -> Float:
    """Levin's closed form on a band 10 px inside to 20 px outside the roto, and nothing else."""
    solid = (roto > 0.5).astype(np.uint8)
    inside, outside = (cv2.distanceTransform(m, cv2.DIST_L2, 5) for m in (solid, 1 - solid))
    trimap = np.where(inside > 10, 1, np.where(outside > 20, 0, 0.5)).astype(np.float32)
    return refine(rgb, from_trimap(trimap)).matte


def artists_trimap() -> Float:
    """The one that comes with the lemur: 0, .5 and 1."""
    drawn = grey(data_root() / "footage" / "matting_lemur" / "lemur_trimap.png")
    return np.where(drawn > 0.9, 1, np.where(drawn < 0.1, 0, 0.5)).astype(np.float32)


ROWS: Mapping[str, Method] = {
    "hard roto": alone(lambda _, roto: roto),
    "feather 3 px": blurred(3),
    "feather 4 px": blurred(4),
    "guided filter alone": alone(lambda rgb, roto: guided(CURVE.forward(rgb), roto, 12)),
    "closed form, band of the roto": alone(closed_form_of_band),
    "ours, guided": product(method="guided"),
    "ours": product(),
}
CLIP_ONLY: Mapping[str, Method] = {
    "ours, no neighbours": product(steady=0),
    "ours, one on either side": product(steady=1),
}
STILLS_ONLY: Mapping[str, Method] = {
    "closed form, artist's trimap": product(roto=False, source="trimap"),
    "ours, trimap and roto": product(source="trimap"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """A method's mean. `fore`: recomposite error of its colours on the true alpha; `whole`: of matte and colours; ms CPU a frame."""

    score: MatteScore
    fore: float
    whole: float
    steady: float
    ms: float


def measure(method: Method, plate: Plate, scored: range | None = None) -> Row:
    """Run and score one method on one plate."""
    began = time.process_time()
    mattes, colours = method(plate)
    ms = (time.process_time() - began) / len(plate.rgb) * 1000
    frames = [f for f in plate.rgb if scored is None or f in scored]
    scores = [score_matte(mattes[f], plate.alpha[f]) for f in frames]
    truth = {f: plate.alpha[f] for f in frames}
    fore = [recomposite_error(colours[f], plate.alpha[f], plate.fore[f], plate.alpha[f], NEW_GROUND) for f in frames]
    whole = [recomposite_error(colours[f], mattes[f], plate.fore[f], plate.alpha[f], NEW_GROUND) for f in frames]
    near = {f: mattes[f] for f in (*frames, frames[0] - 1) if f in mattes}
    truth |= {f: plate.alpha[f] for f in near}
    return Row(mean_score(scores), float(np.mean(fore)), float(np.mean(whole)), dtssd(near, truth), ms)


def table(title: str, rows: Mapping[str, Row]) -> None:
    """Print one."""
    print(f"\n{title}\n{'':30} |   SAD   MSE   Grad  Conn | dtSSD | recomp. | ms/frame")
    for name, row in rows.items():
        s = row.score
        steady = f"{row.steady:5.2f}" if row.steady else "     "
        print(
            f"{name:30} | {s.sad:5.2f} {s.mse:5.2f} {s.grad:6.2f} {s.conn:5.2f} | {steady} |  {row.whole:5.2f}  | {row.ms:6.0f}",
            flush=True,
        )


def mean_row(rows: list[Row]) -> Row:
    """Of several plates."""
    means = (float(np.mean([getattr(r, n) for r in rows])) for n in ("fore", "whole", "steady", "ms"))
    return Row(mean_score([r.score for r in rows]), *means)


def foregrounds(plates: Mapping[str, Plate]) -> None:
    """The colours alone, on the true alpha: ours, the plate's own, and pymatting's."""
    from pymatting import estimate_foreground_ml

    print(f"\nforeground alone, on the true alpha: recomposite error of 255\n{'':20} |  plate | pymatting | ours")
    for name, plate in plates.items():
        rgb = np.ascontiguousarray(plate.rgb[1].transpose(1, 2, 0))
        alpha = plate.alpha[1]
        ours = planar(estimate_foreground(rgb, alpha))
        theirs = planar(estimate_foreground_ml(rgb.astype(np.float64), alpha.astype(np.float64)).astype(np.float32))
        errors = [recomposite_error(f, alpha, plate.fore[1], alpha, NEW_GROUND) for f in (plate.rgb[1], theirs, ours)]
        print(f"{name:20} | {errors[0]:6.2f} | {errors[1]:9.2f} | {errors[2]:5.2f}")


def screens() -> dict[str, Row]:
    """The subject over unevenly lit screens with grain; no roto is given but where said."""
    fore, _ = subject()
    height, width = fore.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    light = (0.6 + 0.8 * x / width) * (1 + 0.15 * np.sin(y / 60))
    rows = {}
    for name, colour in SCREENS.items():
        plate = still(np.asarray(colour, np.float32) * light[..., None], np.random.default_rng(0))
        rows[f"{name}, no roto"] = measure(product(roto=False, source="screen", screen=colour), plate)
        rows[f"{name}, roto as core"] = measure(product(source="screen", screen=colour), plate)
    return rows


def contact_sheet(folder: Path, plates: Mapping[str, Plate]) -> None:
    """Edges at 200 %: plate, true alpha, feather, guided filter, ours, and ours on the new ground."""
    box = np.s_[60:230, 170:360]
    lines = []
    for plate in plates.values():
        mattes = [plate.alpha[1], *(ROWS[n](plate)[0][1] for n in ("feather 4 px", "guided filter alone"))]
        ours, colours = ROWS["ours"](plate)
        alpha = ours[1]
        over = colours[1] * alpha + np.array(NEW_GROUND, np.float32)[:, None, None] * (1 - alpha)
        greys = [np.dstack([m] * 3) for m in (*mattes, alpha)]
        shown = [CURVE.forward(p).transpose(1, 2, 0) for p in (plate.rgb[1], over)]
        lines.append(np.hstack([tile[box] for tile in (shown[0], *greys, shown[1])]))
    sheet = (np.clip(np.vstack(lines), 0, 1) * 255 + 0.5).astype(np.uint8)
    sheet = cv2.resize(sheet, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "matte.jpg"
    cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
    print(f"\n{path}: plate, true alpha, feather, guided filter, ours, ours on a new ground")


def large() -> None:
    """CPU time and peak memory of one frame at HD and UHD, the subject enlarged with its edge."""
    print(
        "\none frame, default parameters, edge width scaled with the picture\n            |  CPU s | peak MB of this process so far"
    )
    fore, alpha = subject()
    for name, size, edge in (("1920 × 1080", (1920, 1080), 7.0), ("3840 × 2160", (3840, 2160), 14.0)):
        f, a = (cv2.resize(p, size, interpolation=cv2.INTER_CUBIC) for p in (fore, alpha))
        f, a = np.maximum(f, 0), np.clip(a, 0, 1)[..., None]
        behind = frame_of("roto_camel", 5, size)
        plate = Plate({1: planar(captured(f * a + behind * (1 - a), None))})
        plate.roto[1] = (a[..., 0] > 0.5).astype(np.float32)
        plate.fore[1], plate.alpha[1] = planar(f), a[..., 0]
        row = measure(product(edge=edge), plate)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{name} | {row.ms / 1000:6.2f} | {peak:6.0f}   (SAD {row.score.sad:.2f})", flush=True)


def main() -> int:
    """Run and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip-ground", default="train_car-roundabout")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet of edges at 200 %% there")
    parser.add_argument("--large", action="store_true", help="also one frame each at HD and UHD")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    wanted = ["matting_lemur", options.clip_ground, *(name for name, _ in GROUNDS)]
    missing = [name for name in wanted if not (data_root() / "footage" / name).is_dir()]
    if missing:
        print(f"skipped: no {', '.join(missing)} in {data_root() / 'footage'}; set PLATEWRIGHT_DATA to where it lies")
        return 0
    size = subject()[1].shape[::-1]
    stills = {name: still(frame_of(name, number, size)) for name, number in GROUNDS}
    methods = {**ROWS, **STILLS_ONLY}
    by_ground = {name: {m: measure(method, plate) for m, method in methods.items()} for name, plate in stills.items()}
    for name, rows in by_ground.items():
        table(f"still over {name}", rows)
    table("mean of the three stills", {m: mean_row([rows[m] for rows in by_ground.values()]) for m in methods})
    foregrounds(stills)
    moving = clip(options.clip_ground)
    table(
        f"clip of {CLIP_FRAMES} frames over {options.clip_ground}, rotos off by {ROTO_ERROR_PX:g} px",
        {m: measure(method, moving, SCORED) for m, method in {**ROWS, **CLIP_ONLY}.items()},
    )
    table("screens, unevenly lit, with grain", screens())
    if options.large:
        large()
    if options.sheet:
        contact_sheet(options.sheet, stills)
    print(f"\n{BARS}\n{machine()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
