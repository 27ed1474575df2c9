"""A published version as a shot: what a trainer sees of it, and what a model that is judged doesn't."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import PlateError
from pipeline.finished_shot import VersionShot
from pipeline.frames import FrameRange
from pipeline.jobs.spec import PlateSpec
from pipeline.jobs.training import AskedLesson, LessonSpec
from pipeline.lessons import look_at_lessons
from pipeline.media.exr import Frame, Part, write_frame
from pipeline.media.inspect import inspect_plate
from pipeline.plate import FramePattern, Window
from pipeline.tasks.registry import task
from tests.plates import disc, picture

ROTO = task("roto")
SIZE = (48, 32)
DISPLAY = Window.of_size(*SIZE)


def written(
    folder: Path,
    *,
    frames: range | tuple[int, ...] = range(1001, 1005),
    cut_out: bool = False,
    matte: str = "matte.A",
    own_part: bool = False,
    overscan: int = 0,
    bright: float = 1.0,
) -> str:
    """A version on disk: the tests' disc with its matte. `cut_out`: its picture is premultiplied by it, as a matte's is."""
    folder.mkdir(parents=True, exist_ok=True)
    pattern = FramePattern(folder, "v001.", 4, ".exr")
    width, height = SIZE[0] + 2 * overscan, SIZE[1] + 2 * overscan
    window = Window(-overscan, -overscan, SIZE[0] + overscan - 1, SIZE[1] + overscan - 1)
    for frame in frames:
        alpha = disc(frame, width, height).astype(np.float16)
        rgb = (picture(frame, width, height).astype(np.float32) * bright).astype(np.float16)
        planes = dict(zip("RGB", rgb * alpha if cut_out else rgb, strict=True))
        planes |= {"A": alpha} if cut_out else {}
        header = {"colorInteropID": "lin_rec709_scene"}
        layer = {matte: alpha} if matte else {}
        parts = [Part("rgba", header, planes | ({} if own_part else layer), window, DISPLAY)]
        if own_part:
            parts.append(Part("matte", header, layer, window, DISPLAY))
        write_frame(pattern.path(frame), Frame(tuple(parts)))
    return str(pattern)


def plate_of(pattern: str, frames: str = "1001-1004") -> PlateSpec:
    found = inspect_plate(pattern, frames=FrameRange.parse(frames), colorspace=None)
    assert found.plate is not None and not found.faults, found.faults
    return PlateSpec.of(found.plate, found.source_colorspace).model_copy(update={"frames": frames})


def lesson(pattern: str, frames: str = "1001-1004", **more: Any) -> LessonSpec:
    return LessonSpec(
        version=1, name="show_sq_sh_roto_v001", show="show", sequence="sq", shot="sh", product="roto",
        plate=plate_of(pattern, frames), **more,
    )  # fmt: skip


def shot_of(pattern: str, frames: str = "1001-1004", **more: Any) -> VersionShot:
    return VersionShot(lesson(pattern, frames, **more), ROTO, studio="local")


def test_a_version_shows_its_picture_and_its_matte_frame_by_frame(tmp_path: Path) -> None:
    with shot_of(written(tmp_path)) as shot:
        assert list(shot.frames) == [1001, 1002, 1003, 1004]
        for frame in (1003, 1001, 1003):
            assert np.array_equal(shot.linear(frame), picture(frame, *SIZE).astype(np.float32))
            matte = shot.layer("matte", frame)
            assert matte is not None and matte.dtype == np.float32
            assert np.array_equal(matte, disc(frame, *SIZE).astype(np.float16).astype(np.float32))
        assert shot.display(1001, 16).shape == (3, 16, 24)
        assert shot.layer("nothing", 1001) is None
        with pytest.raises(PlateError, match="has no frame 1005"):
            shot.linear(1005)


@pytest.mark.parametrize("more", [{"matte": "matte.y"}, {"own_part": True}], ids=["only channel", "own part"])
def test_a_matte_is_found_under_another_channels_name_and_in_a_part_of_its_own(
    tmp_path: Path, more: dict[str, Any]
) -> None:
    with shot_of(written(tmp_path, **more)) as shot:
        matte = shot.layer("matte", 1002)
        assert matte is not None and float(matte.max()) == 1.0


def test_a_version_with_overscan_gives_picture_matte_and_shot_of_one_size(tmp_path: Path) -> None:
    with shot_of(written(tmp_path, overscan=4)) as shot:
        assert shot.linear(1001).shape == (3, 40, 56)
        matte = shot.layer("matte", 1001)
        assert matte is not None and matte.shape == (40, 56)
        inner = judged(shot, tmp_path)
        assert (inner.window.width, inner.window.height) == (56, 40)
        assert inner.linear(1001).shape == (3, 40, 56)


def judged(shot: VersionShot, folder: Path, **more: Any) -> Any:
    matte = shot.layer("matte", shot.frames[0])
    assert matte is not None
    parameters = ROTO.parameters.model_validate({"iterations": 3})
    keys = {"matte": {shot.frames[0]: matte}}
    return shot.as_shot(parameters, keys=keys, folder=folder / "judged", **more)


@pytest.mark.parametrize("own_part", [False, True])
def test_a_model_that_is_judged_sees_the_keys_and_nothing_else_of_the_answer(tmp_path: Path, own_part: bool) -> None:
    with shot_of(written(tmp_path, own_part=own_part), cuts=(1003,)) as shot:
        inner = judged(shot, tmp_path, seed=5)
        assert inner.seed == 5 and inner.parameters.iterations == 3 and list(inner.cuts) == [1003]
        assert {name: list(keys) for name, keys in inner.keys.items()} == {"matte": [1001]}
        assert [inner.layer(name, frame) for name in ("matte", "", "rgba") for frame in inner.frames] == [None] * 12
        assert np.array_equal(inner.linear(1002), shot.linear(1002))


def test_frames_that_are_not_to_be_done_can_be_read_beside(tmp_path: Path) -> None:
    with shot_of(written(tmp_path)) as shot:
        inner = judged(shot, tmp_path, frames=[1002, 1003])
        assert (list(inner.frames), list(inner.context)) == ([1002, 1003], [1001, 1004])
        assert list(inner.available) == [1001, 1002, 1003, 1004]


def test_a_version_with_chunks_that_were_skipped_is_read_round_the_hole(tmp_path: Path) -> None:
    with shot_of(written(tmp_path, frames=(1001, 1002, 1004)), "1001-1002,1004") as shot:
        assert list(shot.frames) == [1001, 1002, 1004]
        inner = judged(shot, tmp_path)
        assert list(inner.available) == [1001, 1002, 1004]
        with pytest.raises(PlateError, match="has no frame 1003"):
            shot.layer("matte", 1003)


def test_whatever_shots_were_given_out_no_reader_stays_when_it_is_over(tmp_path: Path) -> None:
    before = threading.active_count()
    with shot_of(written(tmp_path)) as shot:
        for _ in range(3):
            judged(shot, tmp_path).linear(1001)
    assert threading.active_count() == before
    with pytest.raises(RuntimeError), shot_of(str(tmp_path / "v001.####.exr")) as shot:
        judged(shot, tmp_path).linear(1001)
        raise RuntimeError
    assert threading.active_count() == before


# A matte's own picture is cut out by the answer


def test_a_matte_is_learned_from_over_the_plate_that_it_was_made_of(tmp_path: Path) -> None:
    plate, matte = written(tmp_path / "plate", matte=""), written(tmp_path / "matte", cut_out=True)
    with shot_of(matte, picture=plate_of(plate)) as shot:
        assert np.array_equal(shot.linear(1002), picture(1002, *SIZE).astype(np.float32))
        found = shot.layer("matte", 1002)
        assert found is not None and float(found.max()) == 1.0
        inner = judged(shot, tmp_path)
        assert np.array_equal(inner.linear(1002), shot.linear(1002)), "no black where the answer is no"
        assert inner.layer("matte", 1002) is None


def asked(pattern: str, source: str | None = None, **more: Any) -> AskedLesson:
    given: dict[str, Any] = {"name": "v", "pattern": pattern, "frames": "1001-1004", "layer": "matte"}
    if source is not None:
        found = inspect_plate(source, frames=None, colorspace=None)
        given |= {"source": plate_of(source), "hashes": dict(found.hashes)}
    return AskedLesson(**{**given, **more})


def fault_of(one: AskedLesson) -> str:
    (seen,) = look_at_lessons([one])
    assert seen.fault is not None and seen.plate is None and seen.picture is None
    return seen.fault.message


def test_the_plate_of_a_matte_must_be_there_and_be_what_it_was(tmp_path: Path) -> None:
    plate, matte = written(tmp_path / "plate", matte=""), written(tmp_path / "matte", cut_out=True)
    one = asked(matte, plate)
    (seen,) = look_at_lessons([one])
    assert seen.fault is None and seen.picture is not None and seen.picture.pattern == plate
    written(tmp_path / "plate", matte="", bright=0.5)
    assert "was changed since" in fault_of(one)
    (tmp_path / "plate" / "v001.1002.exr").unlink()
    assert "lacks the frames 1002" in fault_of(one)


def test_a_matte_of_another_window_than_its_plate_is_refused(tmp_path: Path) -> None:
    plate = written(tmp_path / "plate", matte="")
    assert "has other windows" in fault_of(asked(written(tmp_path / "m", cut_out=True, overscan=2), plate))


def test_a_version_that_is_not_whole_or_lacks_the_layer_is_refused(tmp_path: Path) -> None:
    pattern = written(tmp_path / "a")
    (tmp_path / "a" / "v001.1003.exr").unlink()
    assert "lacks the frames 1003" in fault_of(asked(pattern))
    assert "has no layer matte" in fault_of(asked(written(tmp_path / "b", matte="depth.Z")))
    assert look_at_lessons([asked(written(tmp_path / "c", frames=(1001,)), frames="1001")])[0].fault is None
    broken = written(tmp_path / "d")
    (tmp_path / "d" / "v001.1001.exr").write_bytes(b"no picture")
    assert "v001.1001.exr" in fault_of(asked(broken))
