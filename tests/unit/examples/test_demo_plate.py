"""The demo's plate is what the README says it is: real, exact, and the same on every run."""

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import OpenEXR
import opentimelineio as otio
import pytest
from demo_plate import DemoFiles, main, make_demo
from demo_scene import Scene

from pipeline.errors import ParameterError, StorageError

FRAMES, WIDTH, HEIGHT = 6, 64, 36


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoFiles]:
    yield make_demo(tmp_path_factory.mktemp("demo"), frames=FRAMES, width=WIDTH, height=HEIGHT, seed=3)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(frames=FRAMES, width=WIDTH, height=HEIGHT, seed=3)


def channels(path: Path) -> dict[str, np.ndarray]:
    return {n: c.pixels for n, c in OpenEXR.File(str(path), separate_channels=True).channels().items()}


def rgb(path: Path) -> np.ndarray:
    found = channels(path)
    return np.dstack([found[c] for c in "RGB"])


def test_the_same_seed_makes_the_same_bytes(demo: DemoFiles, tmp_path: Path) -> None:
    again = make_demo(tmp_path, frames=FRAMES, width=WIDTH, height=HEIGHT, seed=3)
    for frame in demo.frames:
        assert again.plate.path(frame).read_bytes() == demo.plate.path(frame).read_bytes()
        assert again.truth.path(frame).read_bytes() == demo.truth.path(frame).read_bytes()
    assert again.cut.read_text() == demo.cut.read_text()
    assert again.manifest.read_text() == demo.manifest.read_text()


def test_another_seed_changes_the_grain_and_nothing_else(scene: Scene) -> None:
    one, other = scene.composite(2), Scene(frames=FRAMES, width=WIDTH, height=HEIGHT, seed=4).composite(2)
    assert not np.array_equal(one.grain, other.grain)
    assert np.array_equal(one.alpha, other.alpha)
    assert np.array_equal(one.foreground, other.foreground)
    assert np.array_equal(one.background, other.background)


def test_the_plate_has_highlights_above_one_and_values_below_zero(demo: DemoFiles) -> None:
    for frame in demo.frames:
        picture = rgb(demo.plate.path(frame))
        assert picture.dtype == np.float16
        assert np.isfinite(picture).all()
        assert 2.0 < picture.max() < 30.0
        assert picture.min() < 0.0


def test_alpha_lies_in_zero_to_one_and_is_soft(demo: DemoFiles) -> None:
    for frame in demo.frames:
        alpha = channels(demo.truth.path(frame))["A"]
        assert alpha.min() == 0.0
        assert alpha.max() == 1.0
        assert ((alpha > 0.05) & (alpha < 0.95)).sum() > 50


def test_the_plate_is_the_composite_of_its_layers(demo: DemoFiles, scene: Scene) -> None:
    for index, frame in enumerate(demo.frames):
        made = scene.composite(index)
        alpha = channels(demo.truth.path(frame))["A"]
        picture = rgb(demo.plate.path(frame)).astype(np.float32)
        assert np.array_equal(alpha, made.alpha)
        expected = made.foreground + (1 - alpha[..., None]) * made.background + made.grain
        np.testing.assert_allclose(picture, expected, rtol=2**-11, atol=2**-24)  # half's own rounding
        assert np.array_equal(picture[alpha == 0], (made.background + made.grain)[alpha == 0].astype(np.float16))
        assert np.array_equal(picture[alpha == 1], (made.foreground + made.grain)[alpha == 1].astype(np.float16))


def test_the_subject_moves_and_deforms(scene: Scene) -> None:
    """No shift of the first frame's alpha explains the last one's."""
    first, last = scene.composite(0).alpha > 0.5, scene.composite(FRAMES - 1).alpha > 0.5
    columns = np.arange(WIDTH)
    assert (last * columns).sum() / last.sum() - (first * columns).sum() / first.sum() > 1.0
    best = 0.0
    for dy in range(-3, 4):
        for dx in range(-2, 12):
            moved = np.roll(first, (dy, dx), (0, 1))
            best = max(best, (moved & last).sum() / (moved | last).sum())
    assert best < 0.97


def test_the_subject_covers_the_lower_edge_on_every_frame(demo: DemoFiles) -> None:
    """Her photograph ends at the waist: that end must never come into the picture."""
    for frame in demo.frames:
        alpha = channels(demo.truth.path(frame))["A"]
        assert (np.diff((alpha[-1] > 0.5).astype(int)) == 1).sum() == 1
        inside = alpha[-2] > 0.99
        assert (alpha[-1][inside] > 0.5).all()


def test_motion_blur_widens_the_edge_in_the_direction_of_motion() -> None:
    """At the pace of the middle of the shot, more of the picture is half covered than at its slow ends."""
    scene = Scene(frames=32, width=240, height=135)
    partly = [int(((a := scene.composite(i).alpha) > 0.05).sum() - (a > 0.95).sum()) for i in (0, 15)]
    assert partly[1] > 1.3 * partly[0]


def test_keys_are_the_truth_on_the_first_middle_and_last_frame(demo: DemoFiles) -> None:
    assert [frame for frame, _ in demo.keys] == [1001, 1003, 1006]
    for frame, path in demo.keys:
        key = channels(path)
        assert list(key) == ["A"]
        np.testing.assert_allclose(key["A"], channels(demo.truth.path(frame))["A"], atol=2**-11)


def test_the_header_says_what_the_plate_is(demo: DemoFiles) -> None:
    header = OpenEXR.File(str(demo.plate.path(1001))).header()
    assert header["compression"] == OpenEXR.ZIPS_COMPRESSION
    assert header["colorInteropID"] == "lin_rec709_scene"
    assert Fraction(header["framesPerSecond"]) == 24
    assert header["chromaticities"][:2] == pytest.approx((0.64, 0.33))
    code = header["timeCode"]
    assert ((code.hours * 60 + code.minutes) * 60 + code.seconds) * 24 + code.frame == 1001


def test_the_cut_plays_the_plate_with_handles_and_a_dissolve(tmp_path: Path) -> None:
    demo = make_demo(tmp_path, frames=16, width=32, height=18)
    timeline = otio.adapters.read_from_file(str(demo.cut))
    assert timeline.global_start_time == otio.opentime.RationalTime(86400, 24)
    clips = list(timeline.find_clips())
    assert [clip.name for clip in clips] == ["sh000", "sh010", "sh020"]
    assert [clip.media_reference.is_missing_reference for clip in clips] == [True, False, True]
    clip = clips[1]
    assert clip.name == demo.clip
    played, media = clip.source_range, clip.media_reference
    assert (played.start_time.value, played.end_time_inclusive().value) == (1005, 1012)
    assert (media.start_frame, media.end_frame()) == (demo.frames.first, demo.frames.last)
    assert media.available_range.start_time.value == 1001
    assert media.available_range.duration.value == len(demo.frames)
    urls = [media.target_url_for_image_number(i) for i in range(len(demo.frames))]
    assert [demo.cut.parent / url for url in urls] == [demo.plate.path(frame) for frame in demo.frames]
    dissolve = timeline.tracks[0][2]
    assert isinstance(dissolve, otio.schema.Transition)
    assert played.end_time_inclusive().value + dissolve.out_offset.value <= demo.frames.last


def test_the_manifest_names_every_file(demo: DemoFiles) -> None:
    said = json.loads(demo.manifest.read_text())
    assert said["frames"] == "1001-1006"
    assert demo.folder / said["plate"] == Path(str(demo.plate))
    assert demo.folder / said["truth"] == Path(str(demo.truth))
    assert {int(f): demo.folder / p for f, p in said["keys"].items()} == dict(demo.keys)
    assert (demo.folder / said["cut"]).is_file()
    assert said["clip"] == "sh010"


def test_a_shorter_demo_leaves_no_frames_of_a_longer_one(tmp_path: Path) -> None:
    make_demo(tmp_path, frames=5, width=32, height=18)
    mine = tmp_path / "keys" / "notes.txt"
    mine.write_text("stays")
    short = make_demo(tmp_path, frames=3, width=32, height=18)
    assert len(list(short.plate.folder.iterdir())) == 3
    assert len(list(short.truth.folder.iterdir())) == 3
    assert sorted(p.name for p in mine.parent.iterdir()) == [
        "matte.1001.exr", "matte.1002.exr", "matte.1003.exr", "notes.txt",
    ]  # fmt: skip


@pytest.mark.parametrize(("width", "height"), [(48, 48), (96, 24), (27, 48)])
def test_any_shape_of_picture_is_covered(width: int, height: int) -> None:
    made = Scene(frames=3, width=width, height=height).composite(1)
    assert made.plate.shape == (height, width, 3)
    assert 0.03 < made.alpha.mean() < 0.9


def test_a_demo_of_two_frames_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ParameterError, match="2 frames"):
        make_demo(tmp_path / "out", frames=2)
    assert main([str(tmp_path / "out"), "--frames", "2"]) == 2
    assert "3 to 1000" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_a_storage_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="plate can't be written"):
        make_demo(tmp_path / "file", frames=3, width=32, height=18)


def test_the_command_line_says_where_the_files_lie(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--frames", "3", "--size", "32x18"]) == 0
    assert str(tmp_path / "demo.json") in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--size", "large"])
    assert "960x540" in capsys.readouterr().err
