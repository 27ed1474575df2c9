"""CPU time of reading and writing EXR: this product beside OpenImageIO's wheel, same pixels, same codec, same run.

    python benchmarks/exr.py [--codec zips] [--repeats 7]

One thread each. The frame is a photograph (scikit-image's astronaut) enlarged to UHD, made scene-linear, with film-like grain that
grows with exposure, a soft alpha, values above 1 and below 0: constants or clean gradients would flatter every codec.
The bar is 0.7 × OpenImageIO's CPU time for ZIPS, for reading and for writing.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import OpenEXR
import OpenImageIO as oiio
import skimage.data

from pipeline.media.exr import Frame, Part, read_frame, write_frame
from pipeline.plate import Window

WIDTH, HEIGHT = 3840, 2160
BAR = 0.7


def uhd_frame() -> Frame:
    """The frame that is measured: RGBA half."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng(7)
    display = cv2.resize(
        skimage.data.astronaut().astype(np.float32) / 255, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC
    )
    linear = (
        np.where(display <= 0.04045, display / 12.92, (np.maximum(display, 0) / 1.055 + 0.055 / 1.055) ** 2.4) * 1.5
    )
    grain = rng.standard_normal(linear.shape, np.float32) * (0.003 + 0.02 * np.sqrt(np.maximum(linear, 0)))
    pixels = (linear + grain).astype(np.float16)
    alpha = cv2.GaussianBlur((display[..., 0] > 0.5).astype(np.float32), (0, 0), 5).astype(np.float16)
    window = Window.of_size(WIDTH, HEIGHT)
    channels = {name: np.ascontiguousarray(pixels[..., i]) for i, name in enumerate("RGB")} | {"A": alpha}
    return Frame((Part("", {}, channels, window, window),))


def cpu_ms(call: Callable[[], object], repeats: int) -> float:
    """Median CPU time of the process in one call, all its threads counted."""
    times = []
    for _ in range(repeats):
        started = time.process_time()
        call()
        times.append((time.process_time() - started) * 1000)
    return statistics.median(times)


def oiio_write(path: Path, interleaved: np.ndarray, codec: str) -> None:
    """The same frame through OpenImageIO, its fastest way: one call with half pixels."""
    spec = oiio.ImageSpec(WIDTH, HEIGHT, 4, "half")
    spec.attribute("compression", codec)
    spec.channelnames = ("R", "G", "B", "A")
    out = oiio.ImageOutput.create(str(path))
    if not out.open(str(path), spec) or not out.write_image(interleaved):
        raise SystemExit(out.geterror())
    out.close()


def oiio_read(path: Path) -> np.ndarray:
    """All four channels as half, without conversion."""
    source = oiio.ImageInput.open(str(path))
    pixels = source.read_image(0, 0, 0, 4, "half")
    source.close()
    return pixels


def machine() -> str:
    """What the numbers were measured on."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        model = next(
            (line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line), model
        )
    return (
        f"{model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}, "
        f"OpenEXR {OpenEXR.__version__}, OpenImageIO {oiio.VERSION_STRING}, NumPy {np.__version__}"
    )


def main() -> int:
    """Print the table; exit 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codec", default="zips", choices=["none", "zips", "zip"])
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    oiio.attribute("threads", 1)
    oiio.attribute("exr_threads", -1)
    frame = uhd_frame()
    interleaved = np.ascontiguousarray(np.stack([frame.main.channels[c] for c in "RGBA"], -1))
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        ours, theirs = Path(folder) / "ours.exr", Path(folder) / "oiio.exr"
        # Interleaved runs: a busy neighbour slows both.
        runs: dict[str, list[float]] = {"our write": [], "oiio write": [], "our read": [], "oiio read": []}
        for _ in range(options.repeats):
            runs["our write"].append(cpu_ms(lambda: write_frame(ours, frame, codec=options.codec), 1))
            runs["oiio write"].append(cpu_ms(lambda: oiio_write(theirs, interleaved, options.codec), 1))
            # Both read the file that OpenImageIO wrote: the same work.
            runs["our read"].append(cpu_ms(lambda: read_frame(theirs), 1))
            runs["oiio read"].append(cpu_ms(lambda: oiio_read(theirs), 1))
        ours_back, theirs_back = read_frame(ours).main.channels, oiio_read(ours)
        for i, name in enumerate("RGBA"):
            assert ours_back[name].tobytes() == frame.main.channels[name].tobytes(), "our file reads back wrong"
            assert theirs_back[..., i].tobytes() == frame.main.channels[name].tobytes(), (
                "OpenImageIO reads our file wrong"
            )
        sizes = ours.stat().st_size, theirs.stat().st_size
    median = {name: statistics.median(times) for name, times in runs.items()}
    print(f"EXR, {WIDTH}×{HEIGHT} RGBA half, {options.codec}, CPU ms a frame, median of {options.repeats}")
    print(f"machine: {machine()}")
    print(f"{'':8}{'ours':>8}{'OIIO':>8}{'ratio':>8}{'bar':>6}{'MB ours':>10}{'MB OIIO':>10}")
    missed = False
    for what in ("read", "write"):
        ratio = median[f"our {what}"] / median[f"oiio {what}"]
        missed |= ratio > BAR
        size = f"{sizes[0] / 1e6:10.1f}{sizes[1] / 1e6:10.1f}" if what == "write" else ""
        print(f"{what:8}{median[f'our {what}']:8.0f}{median[f'oiio {what}']:8.0f}{ratio:8.2f}{BAR:6.1f}{size}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
