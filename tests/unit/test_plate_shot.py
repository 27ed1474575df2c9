"""A job's files as a runner sees them: curves, masks, pictures, other plates and layers, in a chunk and in a fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import KeyframeError, PipelineError, RunnerError
from pipeline.jobs.spec import InputSpec, JobSpec, KeySpec, PlateSpec, TakeSpec
from pipeline.media.exr import Frame, Part, read_frame, write_frame
from pipeline.memory_shot import MemoryShot
from pipeline.parameters import Kind, Parameters, parameter
from pipeline.plate import Window
from pipeline.plate_shot import PICTURE, PlateShot
from pipeline.tasks.definition import TaskDefinition

DATA, DISPLAY = Window(-2, -2, 29, 21), Window(0, 0, 27, 19)
HEIGHT, WIDTH = 24, 32
FRAMES = range(1001, 1007)


class _Knobs(Parameters):
    amount: float = parameter(0.5, help="How much.")
    whole: float = parameter(0.25, keyable=False, help="Of the whole shot.")
    steps: int = parameter(3, help="How long.")
    matte: str | None = parameter(None, kind=Kind.MASK, help="Where.")
    clean: str | None = parameter(None, kind=Kind.PLATE, help="Behind.")
    mood: str | None = parameter(None, kind=Kind.REFERENCE, help="Like what.")


TASK = TaskDefinition(name="seeing", label="S", help="h", parameters=_Knobs, runner="a:B", product="s", fits=True)
PAINTED = replace(TASK, key_kind="picture")


class Report:
    def __init__(self) -> None:
        self.pictures: dict[int, NDArray[np.uint8]] = {}

    def progress(self, fraction: float, note: str) -> None: ...

    def preview(self, frame: int, picture: NDArray[np.uint8]) -> None:
        self.pictures[frame] = picture

    def frame_done(self, frame: int) -> None: ...


def rgb(frame: int) -> NDArray[np.float16]:
    made = np.random.default_rng(frame).normal(0.4, 0.3, (3, HEIGHT, WIDTH)).astype(np.float16)
    made[:, 0, 0] = 55.0
    return made


def write(path: Path, channels: Mapping[str, NDArray[Any]], *more: Part, window: Window = DATA) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    name = "beauty" if more else ""
    write_frame(path, Frame((Part(name, {}, dict(channels), window, DISPLAY), *more)))
    return path


def flat(value: float, window: Window = DATA) -> NDArray[np.float16]:
    return np.full((window.height, window.width), value, np.float16)


@pytest.fixture
def spec(tmp_path: Path) -> JobSpec:
    """Six frames with a layer `old.A`, a lone `depth.Z`, `diffuse` of three channels and a matte in a part of its own."""
    for frame in FRAMES:
        planes = dict(zip("RGB", rgb(frame), strict=True))
        layers = {"old.A": flat(frame / 2048), "depth.Z": flat(7.0).astype(np.float32)}
        diffuse = {f"diffuse.{c}": flat(0.1) for c in "RGB"}
        own = Part("own", {}, {"hero.A": flat(0.75)}, DATA, DISPLAY)
        small = Part("small", {}, {"crop.A": flat(1, DISPLAY)}, DISPLAY, DISPLAY)
        write(tmp_path / "plate" / f"p.{frame}.exr", planes | layers | diffuse, own, small)
    plate = PlateSpec(
        pattern=str(tmp_path / "plate" / "p.####.exr"), frames="1001-1006", layers=(), data_window=tuple(DATA.as_list()),
        display_window=tuple(DISPLAY.as_list()), colorspace="lin_rec709_scene", source_colorspace="lin_rec709_scene",
    )  # fmt: skip
    take = TakeSpec(index=0, name="t", seed=9, parameters=_Knobs().model_dump(mode="json"))
    return JobSpec(
        task="seeing", studio="local", show="s", sequence="", shot="x", plate=plate, frames="1001-1006", takes=(take,),
        codec="zips", publish_root=str(tmp_path),
    )  # fmt: skip


Opened = Callable[..., PlateShot]


@pytest.fixture
def opened(spec: JobSpec, tmp_path: Path) -> Any:
    """Opens shots of the spec and closes them in the end."""
    shots: list[PlateShot] = []

    def open_(
        *, frames: Any = FRAMES, context: Any = (), in_fit: bool = False, definition: TaskDefinition = TASK,
        report: Report | None = None, job: Mapping[str, Any] | None = None, **take: Any,
    ) -> PlateShot:  # fmt: skip
        inputs = {n: InputSpec(path=str(p)) for n, p in take.pop("inputs", {}).items()}
        with_inputs = spec.takes[0].model_copy(update={"inputs": inputs, **take})
        of = spec.model_copy(update={"takes": (with_inputs,), **(job or {})})
        shot = PlateShot(
            of, with_inputs, definition, frames=tuple(frames), context=tuple(context), folder=tmp_path,
            report=report or Report(), in_fit=in_fit,
        )  # fmt: skip
        shots.append(shot)
        return shot

    yield open_
    for shot in shots:
        shot.__exit__(None, None, None)


# Parameters


def test_a_keyed_float_has_its_value_on_each_frame_and_the_others_stay(opened: Opened) -> None:
    shot = opened(curves={"amount": {1001: 0.0, 1002: 0.125}})
    assert [shot.at(f).amount for f in (1001, 1002, 1003)] == [0.0, 0.125, 0.5]  # type: ignore[attr-defined]
    assert shot.at(1001).whole == 0.25  # type: ignore[attr-defined]
    assert shot.parameters == _Knobs()


def test_a_fit_sees_no_number_that_may_be_keyed(opened: Opened) -> None:
    given = _Knobs(amount=9, whole=8, steps=7).model_dump(mode="json")
    shot = opened(in_fit=True, parameters=given, curves={"amount": {1001: 3.0}})
    assert shot.parameters == _Knobs(whole=8, steps=7)
    assert shot.at(1001) == shot.parameters


# Which frames


def test_frames_that_the_plate_lacks_are_not_available_and_context_is(opened: Opened) -> None:
    shot = opened(frames=(1002, 1003, 1004), context=(1001, 1005), job={"missing": "1003"})
    assert shot.available == (1001, 1002, 1004, 1005)
    assert [shot.nearest(f) for f in (1003, 1000, 1099)] == [1002, 1001, 1005], "of two, the earlier"
    for frame in (1003, 1006, 999):
        with pytest.raises(RunnerError, match=f"frame {frame} can't be read here"):
            shot.linear(frame)


def test_a_frame_with_no_plate_frame_in_reach_is_told_in_words(opened: Opened) -> None:
    with pytest.raises(RunnerError, match="no frame of it is near"):
        opened(frames=(1003,), job={"missing": "1003"}).nearest(1003)


@pytest.mark.parametrize("in_fit", [True, False])
def test_the_picture_is_the_plates_bit_for_bit_and_comes_back_through_model_space(opened: Opened, in_fit: bool) -> None:
    shot = opened(in_fit=in_fit)
    for frame in reversed(FRAMES):
        assert shot.linear(frame).dtype == np.float32
        assert shot.linear(frame).astype(np.float16).tobytes() == rgb(frame).tobytes()
        assert shot.from_display(shot.display(frame)).astype(np.float16).tobytes() == rgb(frame).tobytes()
    assert shot.display(1001, 12).shape == (3, 12, 16)


def test_the_window_is_what_is_delivered_and_the_plates_stays_the_plates(opened: Opened) -> None:
    plain, wide = opened(), opened(data_window=(-10, -10, 40, 40))
    assert (plain.window, plain.plate_window, plain.display_window) == (DATA, DATA, DISPLAY)
    assert (wide.window, wide.plate_window) == (Window(-10, -10, 40, 40), DATA)
    assert wide.linear(1001).shape == (3, HEIGHT, WIDTH)


# Layers of the plate


@pytest.mark.parametrize("in_fit", [True, False])
def test_a_layer_is_its_a_or_its_only_channel_from_any_part_of_the_pictures_window(
    opened: Opened, in_fit: bool
) -> None:
    shot = opened(in_fit=in_fit)
    found = {name: shot.layer(name, 1003) for name in ("old", "depth", "hero")}
    assert {name: plane is not None and float(plane[5, 5]) for name, plane in found.items()} == {
        "old": float(np.float16(1003 / 2048)), "depth": 7.0, "hero": 0.75,
    }  # fmt: skip
    assert all(plane is not None and plane.dtype == np.float32 for plane in found.values())
    assert [shot.layer(name, 1003) for name in ("diffuse", "none", "crop", "", "old.A")] == [None] * 5


@pytest.mark.parametrize("in_fit", [True, False])
def test_a_layer_of_a_plate_that_names_no_space_is_read_by_the_persons_word(
    opened: Opened, tmp_path: Path, in_fit: bool
) -> None:
    """A DPX doesn't say what it is in; the job does."""
    import OpenImageIO as oiio

    for frame in FRAMES:
        out = oiio.ImageOutput.create("a.dpx")
        assert out.open(str(tmp_path / f"d.{frame}.dpx"), oiio.ImageSpec(8, 4, 3, "uint16"))
        out.write_image(np.full((4, 8, 3), 9000, np.uint16))
        out.close()
    dpx = PlateSpec(
        pattern=str(tmp_path / "d.####.dpx"), frames="1001-1006", layers=(), data_window=(0, 0, 7, 3),
        display_window=(0, 0, 7, 3), colorspace="lin_rec709_scene", source_colorspace="srgb_rec709_scene",
    )  # fmt: skip
    shot = opened(in_fit=in_fit, job={"plate": dpx})
    assert shot.linear(1001).shape == (3, 4, 8)
    assert shot.layer("matte", 1001) is None


# Masks, pictures, other plates


def test_a_mask_sequence_has_its_own_frames_and_a_still_is_the_same_on_all(opened: Opened, tmp_path: Path) -> None:
    for frame in (1002, 1003):
        write(tmp_path / "m" / f"m.{frame}.exr", {"A": flat((frame - 1000) / 8)})
    for path in (tmp_path / "m", tmp_path / "m" / "m.####.exr"):
        shot = opened(inputs={"matte": path})
        values = {f: shot.mask("matte", f) for f in FRAMES}
        assert {f: float(p[3, 3]) for f, p in values.items() if p is not None} == {1002: 0.25, 1003: 0.375}
    still = opened(inputs={"matte": tmp_path / "m" / "m.1003.exr"})
    assert {float(still.mask("matte", f)[0, 0]) for f in (*FRAMES, 5)} == {0.375}  # type: ignore[index]


def test_what_is_not_set_is_not_there(opened: Opened) -> None:
    shot = opened()
    assert (shot.mask("matte", 1001), shot.other("clean", 1001), shot.pictures("mood")) == (None, None, ())


def test_a_mask_of_the_format_is_brought_into_the_overscan(opened: Opened, tmp_path: Path) -> None:
    path = write(tmp_path / "m.exr", {"A": flat(1, DISPLAY)}, window=DISPLAY)
    found = opened(inputs={"matte": path}).mask("matte", 1001)
    assert found is not None
    assert found.shape == (HEIGHT, WIDTH)
    assert found[2:22, 2:30].min() == 1
    assert found.sum() == 20 * 28, "beyond the format there is no mask"


def test_a_mask_of_shapes_lies_in_the_format(opened: Opened, tmp_path: Path) -> None:
    path = tmp_path / "m.svg"
    path.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="28" height="20"><path d="M4 5 L14 5 L14 11 L4 11 Z"/></svg>'
    )
    found = opened(inputs={"matte": path}).mask("matte", 1003)
    assert found is not None
    assert found.shape == (HEIGHT, WIDTH)
    ys, xs = np.nonzero(found > 0.5)
    assert (xs.min(), xs.max(), ys.min(), ys.max()) == (4 + 2, 13 + 2, 5 + 2, 10 + 2)


def test_pictures_come_at_their_own_size_in_order(opened: Opened, tmp_path: Path) -> None:
    for i, name in enumerate("ba"):
        (tmp_path / "mood").mkdir(exist_ok=True)
        assert cv2.imwrite(str(tmp_path / "mood" / f"{name}.png"), np.full((4 + i, 6, 3), 40 * (i + 1), np.uint8))
    found = opened(inputs={"mood": tmp_path / "mood"}).pictures("mood")
    assert [p.shape for p in found] == [(3, 5, 6), (3, 4, 6)]


def test_another_plate_is_read_frame_by_frame(opened: Opened, tmp_path: Path) -> None:
    for frame in (1001, 1003):
        write(tmp_path / "c" / f"c.{frame}.exr", {c: flat(float(frame - 1000)) for c in "RGB"})
    shot = opened(inputs={"clean": tmp_path / "c"})
    found = {frame: shot.other("clean", frame) for frame in FRAMES}
    assert {f: float(p[0, 0, 0]) for f, p in found.items() if p is not None} == {1001: 1.0, 1003: 3.0}


def test_a_file_that_went_away_after_the_submission_is_an_error_in_words(opened: Opened, tmp_path: Path) -> None:
    path = write(tmp_path / "m" / "m.1001.exr", {"A": flat(1)})
    shot = opened(inputs={"matte": path, "mood": tmp_path / "none.png"})
    path.unlink()
    with pytest.raises(PipelineError, match=r"m\.1001\.exr"):
        shot.mask("matte", 1001)
    with pytest.raises(PipelineError, match=r"none\.png"):
        shot.pictures("mood")


# Keys


def test_keys_are_mattes_or_painted_pictures_as_the_task_says(opened: Opened, tmp_path: Path) -> None:
    matte = write(tmp_path / "k.exr", {"A": flat(0.5)})
    key = KeySpec(frame=1002, path=str(matte), object="hero")
    assert opened(job={"keys": (key,)}).keys["hero"][1002].shape == (HEIGHT, WIDTH)
    painted = write(tmp_path / "p.exr", dict(zip("RGB", rgb(1), strict=True)))
    key = KeySpec(frame=1002, path=str(painted))
    shot = opened(job={"keys": (key,)}, definition=PAINTED)
    assert shot.from_display(shot.keys["matte"][1002]).astype(np.float16).tobytes() == rgb(1).tobytes()


def test_a_key_that_broke_after_the_submission_is_named(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "k.exr").write_bytes(b"")
    with pytest.raises(KeyframeError, match=r"key hero:1002: .*empty"):
        opened(job={"keys": (KeySpec(frame=1002, path=str(tmp_path / "k.exr"), object="hero"),)})


# Previews


def test_a_preview_shows_the_matte_over_the_plate_and_a_picture_instead_of_it(opened: Opened) -> None:
    report = Report()
    shot = opened(report=report)
    shot.preview(1001, {})
    plain = report.pictures[1001].astype(int)
    shot.preview(1001, {"matte": np.ones((6, 8), np.float32)})
    assert np.abs(report.pictures[1001].astype(int) - plain).mean() > 10
    green = np.zeros((3, 12, 16), np.float32)
    green[1] = 1
    shot.preview(1002, {PICTURE: green})
    assert report.pictures[1002].shape == (12, 16, 3)
    assert report.pictures[1002].reshape(-1, 3).tolist() == [[0, 255, 0]] * (12 * 16)


def test_a_frame_that_the_plate_lacks_can_be_previewed_with_a_picture(opened: Opened) -> None:
    report = Report()
    shot = opened(report=report, job={"missing": "1003"})
    shot.preview(1003, {PICTURE: np.full((3, 8, 8), 0.5, np.float32)})
    assert 1003 in report.pictures


# The same in memory


def test_a_shot_in_memory_answers_as_the_one_on_disk(opened: Opened, spec: JobSpec, tmp_path: Path) -> None:
    write(tmp_path / "m" / "m.1002.exr", {"A": flat(0.25)})
    disk = opened(
        frames=(1002, 1003), context=(1001,), job={"missing": "1003"}, curves={"amount": {1002: 2.0}},
        inputs={"matte": tmp_path / "m"},
    )  # fmt: skip
    plate = {f: read_frame(Path(spec.plate.pattern.replace("####", str(f)))).rgb() for f in (1001, 1002)}
    memory = MemoryShot(
        plate=plate, parameters=_Knobs(), folder=tmp_path, frames=(1002, 1003), context=(1001,),
        curves={"amount": {1002: 2.0}}, masks={"matte": {1002: flat(0.25).astype(np.float32)}},
        plate_window=DATA, display_window=DISPLAY,
    )  # fmt: skip
    assert tuple(memory.available) == tuple(disk.available) == (1001, 1002)
    assert (memory.window, memory.plate_window, memory.display_window) == (disk.window, DATA, DISPLAY)
    for frame in (1002, 1003):
        assert memory.at(frame) == disk.at(frame)
        one, other = memory.mask("matte", frame), disk.mask("matte", frame)
        assert (one is None) == (other is None)
        assert one is None or np.array_equal(one, other)  # type: ignore[arg-type]
    assert memory.linear(1002).tobytes() == disk.linear(1002).tobytes()
    assert np.array_equal(memory.display(1001, 12), disk.display(1001, 12))
    assert (memory.layer("x", 1002), memory.other("clean", 1002), tuple(memory.pictures("mood"))) == (None, None, ())
