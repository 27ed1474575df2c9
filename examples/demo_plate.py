"""Make a plate worth roto-ing on the spot, with its exact alpha, three keyframe mattes and its place in a cut.

An astronaut walks past a launch pad at dusk: she sways, tilts her head and lifts her helmet while the camera pans; with
grain, motion blur, lamps far above 1.0 and some negative values, in scene-linear Rec.709.

    python examples/demo_plate.py OUT [--frames 32] [--size 960x540] [--seed 0]

`OUT` gets `plate/demo_sh010.####.exr`, `truth/alpha.####.exr`, `keys/matte.####.exr`, `cut.otio` and `demo.json`.
Needs the extras `demo` and `worker` (scikit-image, scipy and OpenCV).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import opentimelineio as otio
from demo_scene import DESIGN_HEIGHT, DESIGN_WIDTH, Scene

from pipeline.colorspace import CHROMATICITIES
from pipeline.errors import PipelineError
from pipeline.frames import FrameRange
from pipeline.media import exr
from pipeline.media.exr_header import timecode_attribute
from pipeline.media.files import storage_error
from pipeline.plate import FramePattern, Window

FIRST_FRAME = 1001
RATE = 24
CLIP = "sh010"
COLORSPACE = "lin_rec709_scene"
HANDLES = 4


@dataclass(frozen=True, slots=True)
class DemoFiles:
    """What `make_demo` wrote. Frames are inclusive."""

    folder: Path
    plate: FramePattern
    truth: FramePattern
    frames: FrameRange
    keys: tuple[tuple[int, Path], ...]
    cut: Path
    clip: str
    manifest: Path


def _write(path: Path, channels: dict[str, npt.NDArray[Any]], *, frame: int, space: str) -> None:
    """One ZIPS EXR with the standard header: rate, timecode, primaries and the colour space's interop id."""
    header: dict[str, Any] = {
        "framesPerSecond": Fraction(RATE, 1),
        "timeCode": timecode_attribute(_timecode(frame)),
        "colorInteropID": space,
    }
    if space in CHROMATICITIES:
        header["chromaticities"] = CHROMATICITIES[space]
    height, width = next(iter(channels.values())).shape
    window = Window.of_size(width, height)
    exr.write_frame(path, exr.Frame((exr.Part("", header, channels, window, window),)), codec="zips")


def _timecode(frame: int) -> str:
    """The timecode whose frame count is the file's number, so that both conventions of a cut agree."""
    seconds, ff = divmod(frame, RATE)
    minutes, ss = divmod(seconds, 60)
    hours, mm = divmod(minutes, 60)
    return f"{hours:02d}:{mm:02d}:{ss:02d}:{ff:02d}"


def make_cut(plate: FramePattern, frames: FrameRange) -> otio.schema.Timeline:
    """Three clips in a row, this plate's in the middle, with handles on both ends and a dissolve into the next."""

    def at(start: int, count: int) -> otio.opentime.TimeRange:
        return otio.opentime.TimeRange(otio.opentime.RationalTime(start, RATE), otio.opentime.RationalTime(count, RATE))

    handles = min(HANDLES, (len(frames) - 1) // 3)
    media = otio.schema.ImageSequenceReference(
        target_url_base=f"{plate.folder.name}/",
        name_prefix=plate.head,
        name_suffix=plate.tail,
        start_frame=frames.first,
        frame_step=1,
        rate=RATE,
        frame_zero_padding=plate.padding,
        available_range=at(frames.first, len(frames)),
    )
    clip = otio.schema.Clip(CLIP, media, at(frames.first + handles, len(frames) - 2 * handles))
    before = otio.schema.Clip("sh000", otio.schema.MissingReference("sh000"), at(1009, 40))
    after = otio.schema.Clip("sh020", otio.schema.MissingReference("sh020"), at(1009, 36))
    track = otio.schema.Track("V1", kind=otio.schema.TrackKind.Video)
    track.extend([before, clip])
    if overlap := handles // 2:
        length = otio.opentime.RationalTime(overlap, RATE)
        track.append(otio.schema.Transition("dissolve", otio.schema.TransitionTypes.SMPTE_Dissolve, length, length))
    track.append(after)
    timeline = otio.schema.Timeline("demo_cut", global_start_time=otio.opentime.RationalTime(3600 * RATE, RATE))
    timeline.tracks.append(track)
    return timeline


def make_demo(
    out: Path, *, frames: int = 32, width: int = DESIGN_WIDTH, height: int = DESIGN_HEIGHT, seed: int = 0
) -> DemoFiles:
    """Write the whole demo into the folder `out`, over an earlier one.

    Raises: ParameterError (as `Scene`), StorageError (a full disk, a folder that can't be written).
    """
    scene = Scene(frames=frames, width=width, height=height, seed=seed)
    span = FrameRange.span(FIRST_FRAME, FIRST_FRAME + frames - 1)
    plate = FramePattern(out / "plate", f"demo_{CLIP}.", 4, ".exr")
    truth = FramePattern(out / "truth", "alpha.", 4, ".exr")
    matte = FramePattern(out / "keys", "matte.", 4, ".exr")
    for pattern in (plate, truth, matte):
        _emptied(pattern)
    key_frames = (span.first, span.first + (frames - 1) // 2, span.last)
    for index, frame in enumerate(span):
        made = scene.composite(index)
        rgb = made.plate.astype(np.float16)
        _write(plate.path(frame), {c: rgb[..., i] for i, c in enumerate("RGB")}, frame=frame, space=COLORSPACE)
        _write(truth.path(frame), {"A": made.alpha}, frame=frame, space="data")
        if frame in key_frames:
            _write(matte.path(frame), {"A": made.alpha.astype(np.float16)}, frame=frame, space="data")
    files = DemoFiles(
        folder=out,
        plate=plate,
        truth=truth,
        frames=span,
        keys=tuple((frame, matte.path(frame)) for frame in key_frames),
        cut=out / "cut.otio",
        clip=CLIP,
        manifest=out / "demo.json",
    )
    otio.adapters.write_to_file(make_cut(plate, span), str(files.cut))
    files.manifest.write_text(json.dumps(_manifest(files, scene), indent=2) + "\n", encoding="utf-8")
    return files


def _emptied(pattern: FramePattern) -> None:
    """The sequence's folder, without the frames of an earlier demo: a longer one's last frames would stay."""
    try:
        pattern.folder.mkdir(parents=True, exist_ok=True)
        for old in pattern.folder.glob(f"{pattern.head}*{pattern.tail}"):
            old.unlink()
    except OSError as error:
        raise storage_error(error, pattern.folder) from error


def _manifest(files: DemoFiles, scene: Scene) -> dict[str, Any]:
    """What a script needs to submit and score the demo; paths relative to the manifest."""

    def relative(path: Path) -> str:
        return path.relative_to(files.folder).as_posix()

    return {
        "schema": "platewright-demo/1",
        "plate": relative(Path(str(files.plate))),
        "truth": relative(Path(str(files.truth))),
        "frames": str(files.frames),
        "keys": {str(frame): relative(path) for frame, path in files.keys},
        "cut": relative(files.cut),
        "clip": files.clip,
        "colorspace": COLORSPACE,
        "rate": str(RATE),
        "size": [scene.width, scene.height],
        "seed": scene.seed,
    }


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    try:
        return int(width), int(height)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: write it as 960x540") from None


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Make the demo's plate, its exact alpha, key mattes and cut.")
    parser.add_argument("out", type=Path, help="folder to write into")
    parser.add_argument("--frames", type=int, default=32, help="length of the plate, from frame 1001 (default 32)")
    parser.add_argument("--size", type=_size, default=(DESIGN_WIDTH, DESIGN_HEIGHT), help="as 960x540 (the default)")
    parser.add_argument("--seed", type=int, default=0, help="of the grain (default 0)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Prints where the files lie."""
    given = _arguments(argv)
    width, height = given.size
    try:
        files = make_demo(given.out, frames=given.frames, width=width, height=height, seed=given.seed)
    except PipelineError as error:
        print(f"{error.message}\n{error.hint}", file=sys.stderr)
        return 2
    print(f"{len(files.frames)} frames: {files.plate} {files.frames}")
    print(f"manifest: {files.manifest}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
