"""Plates and keys as they come: every format, spelling and window through `plates run`, from its arguments to the published frames."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import OpenImageIO as oiio
import pytest
from numpy.typing import NDArray

from farm.cli.main import main
from pipeline.frames import FrameRange
from pipeline.media.exr import Frame, Part, read_frame, write_frame
from pipeline.media.image import read_image
from pipeline.plate import FramePattern, Window
from tests.plates import FIRST, SmallPlate, disc, picture, write_small_plate

WIDTH, HEIGHT, COUNT = 96, 64, 4
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def plate(tmp_path: Path) -> SmallPlate:
    return write_small_plate(
        tmp_path / "shot", count=COUNT, width=WIDTH, height=HEIGHT, keys=(FIRST, FIRST + COUNT - 1)
    )


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """`plates run roto …` without a process of its own, for the time that importing torch takes. Returns what it printed."""
    for name in ("DATA", "ROOTS", "PUBLISH_ROOT", "DATABASE_URL"):
        monkeypatch.delenv(f"PLATEWRIGHT_{name}", raising=False)

    def call(*arguments: object, code: int = 0) -> dict[str, Any]:
        given = ["--iterations", "0", "--seed", "1", "--out", tmp_path / "out", *arguments]
        monkeypatch.setattr("sys.argv", ["plates", "run", "roto", *map(str, given), "--json"])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        assert ended.value.code == code, err
        assert out.count("\n") == 1, "one object, one line, nothing else"
        result: dict[str, Any] = json.loads(out)
        return result

    return call


def published(ended: dict[str, Any], frame: int) -> Frame:
    pattern = FramePattern.parse(ended["version"]["pattern"])
    assert pattern is not None
    return read_frame(pattern.path(frame))


def overlap(one: NDArray[Any], other: NDArray[Any]) -> float:
    a, b = one.astype(np.float32) > 0.5, other > 0.5
    return float((a & b).sum() / (a | b).sum())


def write_oiio(path: Path, pixels: NDArray[Any], kind: str, **attributes: Any) -> None:
    """(height, width, channels) 0 … 1 into any format."""
    spec = oiio.ImageSpec(pixels.shape[1], pixels.shape[0], pixels.shape[2], kind)
    for name, value in attributes.items():
        spec.attribute(name.replace("_", ":"), value)
    out = oiio.ImageOutput.create(str(path))
    assert out is not None, oiio.geterror()
    assert out.open(str(path), spec), out.geterror()
    assert out.write_image(np.ascontiguousarray(pixels, np.float32)), out.geterror()
    out.close()


def coded(frame: int) -> NDArray[np.float32]:
    """A frame's picture as 0 … 1 code values."""
    linear = picture(frame, WIDTH, HEIGHT).astype(np.float32).transpose(1, 2, 0)
    return np.clip(linear, 0, 1) ** (1 / 2.2)


def sequence(folder: Path, name: str, kind: str, frames: FrameRange, **attributes: Any) -> FramePattern:
    pattern = FramePattern.parse(str(folder / name))
    assert pattern is not None
    folder.mkdir(parents=True, exist_ok=True)
    for frame in frames:
        write_oiio(pattern.path(frame), coded(frame), kind, **attributes)
    return pattern


def check(ended: dict[str, Any], plate: SmallPlate, source: FramePattern, *, frames: FrameRange | None = None) -> None:
    """Its shape is the promised one, its pictures are the plate's, its mattes lie on the subject."""
    frames = frames or plate.frames
    assert ended["state"] == "succeeded"
    assert {"job", "state", "version", "report", "timings"} <= set(ended)
    version, report = ended["version"], ended["report"]
    assert {"name", "path", "frames", "layers", "colorspace"} <= set(version)
    assert FrameRange.parse(version["frames"]) == frames
    assert version["layers"] == ["rgb", "matte"]
    assert version["colorspace"] == "lin_rec709_scene"
    assert [entry["frame"] for entry in report["frames"]] == list(frames)
    assert all(0 <= entry["confidence"] <= 1 for entry in report["frames"])
    assert all(isinstance(seconds, float) for seconds in ended["timings"].values())
    for frame in frames:
        made, was = published(ended, frame).main, read_image(source.path(frame)).main
        for name in "RGB":
            assert made.channels[name].tobytes() == was.channels[name].tobytes(), f"{name} of {frame}"
        assert overlap(made.channels["matte.A"], disc(frame, WIDTH, HEIGHT)) > 0.8


FORMATS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "png 8": ("p.####.png", "uint8", {}),
    "jpeg": ("p_####.jpg", "uint8", {"CompressionQuality": 98}),
    "tiff 8": ("p.####.tif", "uint8", {}),
    "tiff 16": ("p.####.tiff", "uint16", {}),
    "dpx 10": ("p.####.dpx", "uint16", {"oiio_BitsPerSample": 10}),
    "dpx 16": ("p.####.dpx", "uint16", {}),
}


@pytest.mark.parametrize("form", FORMATS)
def test_a_plate_of_any_format_becomes_scene_linear_exr_with_its_matte(
    form: str, run: Run, plate: SmallPlate, tmp_path: Path
) -> None:
    name, kind, attributes = FORMATS[form]
    source = sequence(tmp_path / "seq", name, kind, plate.frames, **attributes)
    said = ["--colorspace", "sRGB"] if form.startswith("dpx") else []
    ended = run("--plate", source, *plate.key_arguments(), *said)
    assert ended["state"] == "succeeded"
    first = published(ended, FIRST).main
    assert first.channels["R"].dtype == np.float16
    if not said:
        check(ended, plate, source)
    middle = first.channels["G"].astype(np.float32)
    wanted = np.clip(picture(FIRST, WIDTH, HEIGHT)[1].astype(np.float32), 0, 1)
    error = np.abs(middle - wanted)
    assert np.median(error) < (0.02 if form != "jpeg" else 0.03), (
        "it was made linear, by the curve that the format means"
    )


def test_the_spellings_of_one_plate_mean_the_same_frames(
    run: Run, plate: SmallPlate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(plate.pattern.folder.parent)
    spellings = ["plate/sh010.%04d.exr", "plate", "plate/sh010.1002.exr"]
    names = []
    for spelling in spellings:
        ended = run("--plate", spelling, *plate.key_arguments())
        check(ended, plate, plate.pattern)
        names.append(ended["version"]["name"].rpartition("_")[2])
    assert names == ["v001", "v002", "v003"]


def test_frames_below_zero_and_across_it(run: Run, plate: SmallPlate, tmp_path: Path) -> None:
    pattern = FramePattern(tmp_path / "seq", "sh010.", 4, ".exr")
    pattern.folder.mkdir()
    for i, frame in enumerate(plate.frames):
        plate.pattern.path(frame).rename(pattern.path(i - 2))
    keys = ["--key", f"-2={plate.keys[FIRST]}", "--key", f"1={plate.keys[FIRST + 3]}"]
    ended = run("--plate", pattern, *keys)
    assert ended["version"]["frames"] == "-2-1"
    assert [entry["frame"] for entry in ended["report"]["frames"]] == [-2, -1, 0, 1]
    assert sorted(p.name.split(".")[1] for p in Path(ended["version"]["path"]).glob("*.exr")) == [
        "-0001",
        "-0002",
        "0000",
        "0001",
    ]
    assert overlap(published(ended, -2).main.channels["matte.A"], disc(FIRST, WIDTH, HEIGHT)) > 0.8
    only = run("--plate", pattern, *keys[:2], "--frames=-2--1")
    assert only["version"]["frames"] == "-2--1"


def test_a_plate_on_twos_is_asked_for_by_its_frames(run: Run, tmp_path: Path) -> None:
    plate = write_small_plate(tmp_path / "twos", count=9, width=WIDTH, height=HEIGHT, keys=(1001, 1009))
    for frame in range(1002, 1010, 2):
        plate.pattern.path(frame).unlink()
    refused = run("--plate", plate.pattern, *plate.key_arguments(), code=3)
    assert any("1002" in fault["message"] for fault in refused["faults"])
    ended = run("--plate", plate.pattern, *plate.key_arguments(), "--frames", "1001-1009x2")
    check(ended, plate, plate.pattern, frames=FrameRange.parse("1001-1009x2"))


KEYS: dict[str, Callable[[Path, NDArray[np.float32]], Path]] = {}


def key(function: Callable[[Path, NDArray[np.float32]], Path]) -> Callable[[Path, NDArray[np.float32]], Path]:
    KEYS[function.__name__] = function
    return function


@key
def png_l(folder: Path, matte: NDArray[np.float32]) -> Path:
    write_oiio(folder / "k.png", matte[..., None], "uint8")
    return folder / "k.png"


@key
def png_rgba(folder: Path, matte: NDArray[np.float32]) -> Path:
    """A painted cut-out: the colour is anything, the matte is the alpha."""
    colour = np.random.default_rng(3).uniform(0, 1, (*matte.shape, 3))
    write_oiio(folder / "k.png", np.dstack([colour, matte]), "uint8", oiio_UnassociatedAlpha=1)
    return folder / "k.png"


@key
def png_rgb(folder: Path, matte: NDArray[np.float32]) -> Path:
    write_oiio(folder / "k.png", np.dstack([matte] * 3), "uint8")
    return folder / "k.png"


@key
def tiff_16(folder: Path, matte: NDArray[np.float32]) -> Path:
    write_oiio(folder / "k.tif", matte[..., None], "uint16")
    return folder / "k.tif"


@key
def jpeg(folder: Path, matte: NDArray[np.float32]) -> Path:
    write_oiio(folder / "k.jpg", matte[..., None], "uint8", CompressionQuality=100)
    return folder / "k.jpg"


@key
def exr_r(folder: Path, matte: NDArray[np.float32]) -> Path:
    window = Window.of_size(WIDTH, HEIGHT)
    write_frame(folder / "k.exr", Frame((Part("", {}, {"R": matte.astype(np.float16)}, window, window),)))
    return folder / "k.exr"


@key
def exr_rgba(folder: Path, matte: NDArray[np.float32]) -> Path:
    window = Window.of_size(WIDTH, HEIGHT)
    channels = {"A": matte, **{name: np.full_like(matte, 0.7) for name in "RGB"}}
    write_frame(folder / "k.exr", Frame((Part("", {}, channels, window, window),)))
    return folder / "k.exr"


@key
def exr_cropped(folder: Path, matte: NDArray[np.float32]) -> Path:
    """As Nuke writes it: pixels only where something is, the format said beside."""
    rows, columns = np.where(matte > 0)
    box = Window(int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max()))
    inside = np.ascontiguousarray(matte[box.y_min : box.y_max + 1, box.x_min : box.x_max + 1])
    write_frame(folder / "k.exr", Frame((Part("", {}, {"A": inside}, box, Window.of_size(WIDTH, HEIGHT)),)))
    return folder / "k.exr"


def test_a_key_matte_of_any_kind_is_the_matte_of_its_frame(run: Run, plate: SmallPlate, tmp_path: Path) -> None:
    """Each kind keys an object of its own."""
    keys: list[object] = []
    for kind, write in KEYS.items():
        (tmp_path / kind).mkdir()
        keys += ["--key", f"{kind.replace('_', '-')}:{FIRST}={write(tmp_path / kind, disc(FIRST, WIDTH, HEIGHT))}"]
    ended = run("--plate", plate.pattern, *keys, "--frames", f"{FIRST}-{FIRST + 1}")
    channels = published(ended, FIRST).main.channels
    exact = disc(FIRST, WIDTH, HEIGHT)
    found = {kind: overlap(channels[f"{kind.replace('_', '-')}.A"], exact) for kind in KEYS}
    assert min(found.values()) > 0.93, found


@pytest.mark.parametrize(
    ("data", "display"),
    [
        (Window(-8, -6, WIDTH - 9, HEIGHT - 7), Window(0, 0, WIDTH - 17, HEIGHT - 13)),
        (Window(10, 6, WIDTH + 9, HEIGHT + 5), Window(0, 0, WIDTH + 29, HEIGHT + 19)),
        (Window(90, 40, WIDTH + 89, HEIGHT + 39), Window(100, 50, WIDTH + 79, HEIGHT + 29)),
    ],
    ids=["overscan", "crop", "format away from nought"],
)
def test_a_matte_lands_on_the_plates_own_pixels_whatever_its_windows(
    data: Window, display: Window, run: Run, plate: SmallPlate, tmp_path: Path
) -> None:
    """The plate's pixels are as ever; only where they say they lie differs. Keys are painted on the format, as hosts show it."""
    for frame in plate.frames:
        part = read_frame(plate.pattern.path(frame)).main
        write_frame(plate.pattern.path(frame), Frame((replace(part, data_window=data, display_window=display),)))
    keys: list[object] = []
    for frame in plate.keys:
        matte = np.zeros((display.height, display.width), np.float32)
        whole = disc(frame, WIDTH, HEIGHT)
        top, left = data.y_min - display.y_min, data.x_min - display.x_min
        y0, x0 = max(0, top), max(0, left)
        y1, x1 = min(display.height, top + HEIGHT), min(display.width, left + WIDTH)
        matte[y0:y1, x0:x1] = whole[y0 - top : y1 - top, x0 - left : x1 - left]
        path = tmp_path / f"key.{frame}.png"
        write_oiio(path, matte[..., None], "uint8")
        keys += ["--key", f"{frame}={path}"]
    ended = run("--plate", plate.pattern, *keys)
    for frame in plate.frames:
        made, was = published(ended, frame).main, read_frame(plate.pattern.path(frame)).main
        assert (made.data_window, made.display_window) == (data, display)
        assert made.channels["R"].tobytes() == was.channels["R"].tobytes()
        assert overlap(made.channels["matte.A"], disc(frame, WIDTH, HEIGHT)) > 0.75


def test_a_published_version_can_be_the_plate_of_the_next(run: Run, plate: SmallPlate) -> None:
    """Its old matte makes room for the new one; nothing else changes."""
    first = run("--plate", plate.pattern, *plate.key_arguments())
    second = run("--plate", first["version"]["path"], *plate.key_arguments(), "--feather", "3", "--shot", "sh010")
    assert second["version"]["name"].endswith("sh010_roto_v002")
    assert second["version"]["layers"] == ["rgb", "matte"]
    for frame in plate.frames:
        one, two, was = (
            published(first, frame).main,
            published(second, frame).main,
            read_frame(plate.pattern.path(frame)).main,
        )
        assert all(two.channels[name].tobytes() == was.channels[name].tobytes() for name in "RGB")
        assert set(two.channels) == {"R", "G", "B", "matte.A"}
        assert two.channels["matte.A"].tobytes() != one.channels["matte.A"].tobytes()


def test_a_plate_of_many_parts_and_layers_comes_back_whole(run: Run, plate: SmallPlate) -> None:
    depth = np.full((HEIGHT, WIDTH), np.nan, np.float32)
    crypto = np.random.default_rng(5).integers(0, 1 << 32, (HEIGHT, WIDTH), dtype=np.uint32).view(np.float32)
    for frame in plate.frames:
        main = replace(read_frame(plate.pattern.path(frame)).main, name="beauty")
        window = main.data_window
        header = {"cryptomatte/0/manifest": "{}", "colorInteropID": "lin_rec709_scene"}
        data = Part("data", header, {"depth.Z": depth, "crypto00.R": crypto}, window, window)
        write_frame(plate.pattern.path(frame), Frame((data, main)))
    ended = run("--plate", plate.pattern, *plate.key_arguments(), "--codec", "zip")
    made = published(ended, FIRST)
    assert [part.name for part in made.parts] == ["data", "beauty"]
    assert made.parts[0].channels["depth.Z"].tobytes() == depth.tobytes()
    assert made.parts[0].channels["crypto00.R"].tobytes() == crypto.tobytes()
    assert made.parts[0].header["cryptomatte/0/manifest"] == "{}"
    assert set(made.parts[1].channels) == {"R", "G", "B", "matte.A"}
    assert set(ended["version"]["layers"]) == {"depth", "crypto00", "rgb", "matte"}


def test_a_run_leaves_the_work_of_a_dispatcher_with_the_same_root_alone(
    run: Run, plate: SmallPlate, tmp_path: Path
) -> None:
    theirs = tmp_path / "out" / ".platewright" / "work" / "local-job-1" / "take0" / "infer-0" / "a1" / "frame.1001.exr"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("")
    run("--plate", plate.pattern, *plate.key_arguments())
    assert theirs.exists()
    assert len(list((tmp_path / "out" / ".platewright" / "work").iterdir())) == 1


def test_a_run_that_fails_ends_with_1_and_leaves_nothing(
    run: Run, plate: SmallPlate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.tasks.roto import runner

    def explode(*_: object) -> None:
        raise ZeroDivisionError("the model is ill")

    monkeypatch.setattr(runner.RotoRunner, "fit", explode)
    ended = run("--plate", plate.pattern, *plate.key_arguments(), code=1)
    assert (ended["state"], ended["version"], ended["report"]) == ("failed", None, None)
    assert "the model is ill" in ended["message"]
    assert list((tmp_path / "out").rglob("*")) == []


def test_what_no_request_can_say_is_refused_in_words_not_with_a_traceback(run: Run, plate: SmallPlate) -> None:
    refused = run("--plate", plate.pattern, "--key", f"{'x' * 70}:{FIRST}={plate.keys[FIRST]}", code=3)
    assert any("keys" in fault["where"] for fault in refused["faults"])
