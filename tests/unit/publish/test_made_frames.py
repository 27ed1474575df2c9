"""Versions with more than the plate: frames that it lacks, wider windows, an alpha. Whole ones pass, broken ones never do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.compose import compose
from pipeline.frames import FrameRange
from pipeline.media.exr import Frame, Part, pixel_hash, probe, read_frame, write_frame
from pipeline.media.exr_header import timecode_attribute
from pipeline.plate import Window
from pipeline.publish.run import PublishRefused
from pipeline.tasks.contract import FrameResult
from tests.unit.publish.conftest import DATA, DISPLAY, FRAMES, HEIGHT, WIDTH, matte, plate_frame

WIDE, WIDE_DISPLAY = Window(-7, -4, WIDTH + 4, HEIGHT + 1), Window(-5, -2, WIDTH, HEIGHT)
INSIDE = (slice(2, 2 + HEIGHT), slice(5, 5 + WIDTH))
SMALL = Window(3, 3, 12, 10)


def plane(window: Window, value: float = 0.5) -> np.ndarray:
    return np.full((window.height, window.width), value, np.float32)


def result(frame: int, window: Window = DATA, *, rgb: float | None = None, alpha: float | None = None) -> FrameResult:
    moving = plane(window, 0.0)
    moving[4:9, frame - 1001 : frame - 995] = 1
    return FrameResult(
        frame, {"matte": {"A": moving}}, {"confidence": 0.9},
        rgb=None if rgb is None else np.stack([plane(window, rgb)] * 3),
        alpha=None if alpha is None else plane(window, alpha),
    )  # fmt: skip


class Made:
    """A bench whose frames come from `compose`; `spoil` breaks some of them afterwards."""

    def __init__(self, bench: Any, *, windows: tuple[Window, Window] | None = None, hashed: bool = False) -> None:
        self.bench = bench
        self.windows = windows
        self.window = DATA if windows is None else windows[0]
        self.hashed = hashed
        bench.ask(windows=windows)

    def plate(self, of: Callable[[int], Frame]) -> None:
        """Write the plate anew."""
        for frame in FRAMES:
            write_frame(self.bench.request.plate.pattern.path(frame), of(frame))

    def without(self, *missing: int) -> None:
        """Take frames out of the plate, files and all."""
        request = self.bench.request
        for frame in missing:
            request.plate.pattern.path(frame).unlink()
        gone = FrameRange.of(missing)
        self.bench.ask(missing=gone, plate=replace(request.plate, frames=FRAMES - gone))

    def write(self, **results: Any) -> None:
        """Every frame, as a chunk would have written it."""
        request = self.bench.request
        for frame in FRAMES:
            like = request.like(frame)
            source = read_frame(request.plate.pattern.path(like))
            given = results if frame not in request.missing else {"rgb": 0.25, **results}
            made = compose(
                source, result(frame, self.window, **given), request.plate, windows=self.windows, from_frame=like
            )
            write_frame(request.produced[frame], made)
        self.bench.ask(
            changed_rgb=bool(request.missing) or results.get("rgb") is not None,
            makes_alpha=results.get("alpha") is not None,
        )
        if self.hashed:
            own = [frame for frame in FRAMES if frame not in request.missing]
            self.bench.ask(input_hashes={f: pixel_hash(read_frame(request.plate.pattern.path(f))) for f in own})

    def spoil(self, change: Callable[[Frame], Frame], frames: Iterable[int] = (1003,)) -> None:
        for frame in frames:
            path = self.bench.request.produced[frame]
            write_frame(path, change(read_frame(path)))

    def refusal(self) -> dict[str, str]:
        with pytest.raises(PublishRefused) as caught:
            self.bench.run()
        assert self.bench.left() == []
        return {fault.where: fault.message for fault in caught.value.faults}


@pytest.fixture(params=[False, True], ids=["no hashes", "hashes"])
def hashed(request: pytest.FixtureRequest) -> bool:
    """Whether the plate's frames were hashed at submission: the checks go another way then."""
    return bool(request.param)


def channel(name: str, change: Callable[[np.ndarray], np.ndarray | None], part: int = 0) -> Callable[[Frame], Frame]:
    def changed(frame: Frame) -> Frame:
        channels = dict(frame.parts[part].channels)
        new = change(channels.pop(name).copy())
        if new is not None:
            channels[name] = new
        return Frame(tuple(replace(p, channels=channels) if i == part else p for i, p in enumerate(frame.parts)))

    return changed


def nudged(plane: np.ndarray) -> np.ndarray:
    plane[12, 12] += 1
    return plane


def header(**attributes: Any) -> Callable[[Frame], Frame]:
    def changed(frame: Frame) -> Frame:
        merged = {**frame.parts[0].header, **attributes}
        kept = {name: value for name, value in merged.items() if value is not None}
        return Frame((replace(frame.parts[0], header=kept), *frame.parts[1:]))

    return changed


def cropped(frame: Frame) -> Frame:
    """To the display window."""
    main = frame.parts[0]
    channels = {name: plane[2:22, 2:30].copy() for name, plane in main.channels.items()}
    return Frame((replace(main, data_window=DISPLAY, channels=channels), *frame.parts[1:]))


# Frames that the plate lacks


@pytest.mark.parametrize("missing", [(1003,), (1001,), (1005,), (1001, 1002, 1004, 1005)])
def test_a_version_with_frames_that_the_plate_lacks_is_whole(bench, hashed: bool, missing: tuple[int, ...]) -> None:
    made = Made(bench, hashed=hashed)
    made.without(*missing)
    made.write()
    published = bench.run()
    assert published.frames == FRAMES
    for frame in FRAMES:
        info = probe(bench.request.version.pattern.path(frame))
        assert info.timecode == f"01:00:00:{frame - 1001:02d}", "time goes on through made frames"
    main = read_frame(bench.request.version.pattern.path(missing[0])).main
    assert (main.channels["R"] == np.float16(0.25)).all()
    assert (main.channels["A"] == 1).all()
    assert not main.channels["depth.Z"].any()


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        (channel("depth.Z", lambda _: None), "channels and types", "channel depth.Z is gone"),
        (channel("depth.Z", lambda p: p.astype(np.float16)), "channels and types", "depth.Z is half"),
        (channel("matte.A", lambda _: None), "channels and types", "matte is missing"),
        (channel("R", lambda p: p * np.float16(np.nan)), "NaN and infinities", "channel R"),
        (header(timeCode=timecode_attribute("01:00:00:01")), "rate and timecode", "01:00:00:01"),
        (header(timeCode=None), "rate and timecode", "None"),
        (header(owner=None), "header", "owner"),
        (header(framesPerSecond=None), "rate and timecode", "no rate"),
        (header(colorInteropID="lin_ap1_scene"), "colour tag", "lin_ap1_scene"),
        (cropped, "resolution and windows", "data window"),
    ],
)  # fmt: skip
def test_a_broken_made_frame_is_refused(bench, change: Callable[[Frame], Frame], check: str, words: str) -> None:
    made = Made(bench)
    made.without(1003)
    made.write()
    made.spoil(change)
    found = made.refusal()
    assert words in found[check], found
    assert found[check].startswith("1003: ")


def test_a_frame_that_the_plate_has_is_still_held_to_it_bit_for_bit(bench, hashed: bool) -> None:
    made = Made(bench, hashed=hashed)
    made.without(1003)
    made.write()
    made.spoil(channel("depth.Z", nudged_depth), (1002, 1003))
    assert made.refusal() == {"untouched pixels": "1002: channels depth.Z differ from the plate's"}


def nudged_depth(plane: np.ndarray) -> np.ndarray:
    plane[0, 0] = 4.0
    return plane


def test_a_made_frame_that_was_not_made_is_refused(bench) -> None:
    made = Made(bench)
    made.without(1003)
    made.write()
    bench.ask(produced={f: p for f, p in bench.request.produced.items() if f != 1003})
    assert made.refusal() == {"frames whole": "1003: was not made"}


def test_a_neighbour_that_went_away_is_told(bench) -> None:
    made = Made(bench)
    made.without(1003)
    made.write()
    bench.request.plate.pattern.path(1002).unlink()
    assert "can't be read any more" in made.refusal()["frames whole"]


def test_a_made_frame_next_to_a_cut_is_like_its_own_shot(bench) -> None:
    """1004 begins another shot: 1003 was made like 1001, although 1004 is nearer, and so was its header."""
    made = Made(bench)
    made.plate(lambda f: header(**{"shot": "a" if f < 1004 else "b"})(plate_frame(f)))
    made.without(1002, 1003)
    bench.ask(cuts=(1004,))
    assert [bench.request.like(frame) for frame in FRAMES] == [1001, 1001, 1001, 1004, 1005]
    made.write()
    bench.run()
    assert read_frame(bench.request.version.pattern.path(1003)).main.header["shot"] == "a"


# Wider windows


def parts_of(frame: int) -> Frame:
    """The plate's frame, a part with a window of its own, and one that holds another layer in the picture's window."""
    source = plate_frame(frame)
    rng = np.random.default_rng(frame)
    extra = Part(
        "extra", {"note": "x"}, {"mask.Y": rng.random((SMALL.height, SMALL.width)).astype(np.float32)}, SMALL, DISPLAY
    )
    same = Part("same", {}, {"diffuse.R": rng.random((HEIGHT, WIDTH)).astype(np.float16)}, DATA, DISPLAY)
    return Frame((replace(source.parts[0], name="beauty"), extra, same))


def with_old_matte(frame: int) -> Frame:
    source = plate_frame(frame)
    old = Part("old", {}, {"matte.A": matte(frame)}, DATA, DISPLAY)
    return Frame((replace(source.parts[0], name="beauty"), old))


@pytest.mark.parametrize("of", [plate_frame, parts_of, with_old_matte])
@pytest.mark.parametrize("rgb", [None, 2.0])
def test_a_wider_version_is_whole(bench, hashed: bool, of: Callable[[int], Frame], rgb: float | None) -> None:
    made = Made(bench, windows=(WIDE, WIDE_DISPLAY), hashed=hashed)
    made.plate(of)
    made.write(rgb=rgb)
    bench.run()
    main = read_frame(bench.request.version.pattern.path(1002)).main
    assert (main.data_window, main.display_window) == (WIDE, WIDE_DISPLAY)
    own = plate_frame(1002).main.channels["depth.Z"]
    assert np.ascontiguousarray(main.channels["depth.Z"][INSIDE]).tobytes() == own.tobytes()


def shifted(plane: np.ndarray) -> np.ndarray:
    return np.roll(plane, 1, axis=1)


@pytest.mark.parametrize(
    ("name", "part", "change"),
    [("G", 0, nudged), ("A", 0, nudged), ("R", 0, shifted), ("mask.Y", 1, shifted), ("diffuse.R", 2, nudged)],
)
def test_the_plates_pixels_within_a_wider_window_are_held_bit_for_bit(
    bench, hashed: bool, name: str, part: int, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    made = Made(bench, windows=(WIDE, WIDE_DISPLAY), hashed=hashed)
    made.plate(parts_of)
    made.write()
    made.spoil(channel(name, change, part))
    assert made.refusal() == {"untouched pixels": f"1003: channels {name} differ from the plate's"}


def test_windows_that_are_not_those_asked_for_are_refused(bench) -> None:
    made = Made(bench, windows=(WIDE, WIDE_DISPLAY))
    made.write()
    bench.ask(windows=(replace(WIDE, x_min=-8), WIDE_DISPLAY))
    assert "-8" in made.refusal()["resolution and windows"]
    bench.ask(windows=(WIDE, replace(WIDE_DISPLAY, y_max=99)))
    assert "display window" in made.refusal()["resolution and windows"]
    bench.ask(windows=None)
    assert "was asked for" in made.refusal()["resolution and windows"]


def test_another_part_with_another_window_than_the_plates_is_refused(bench) -> None:
    made = Made(bench, windows=(WIDE, WIDE_DISPLAY))
    made.plate(parts_of)
    made.write()

    def narrower(frame: Frame) -> Frame:
        extra = frame.parts[1]
        window = replace(extra.data_window, x_max=extra.data_window.x_max - 1)
        channels = {n: p[:, :-1].copy() for n, p in extra.channels.items()}
        return Frame((frame.parts[0], replace(extra, data_window=window, channels=channels), frame.parts[2]))

    made.spoil(narrower)
    assert made.refusal()["resolution and windows"] == "1003: part 'extra' has other windows than the plate's"


def test_a_plate_that_was_replaced_before_the_task_read_it_is_warned_about(bench) -> None:
    made = Made(bench, windows=(WIDE, WIDE_DISPLAY), hashed=True)
    made.write()
    hashes = bench.request.input_hashes
    write_frame(bench.request.plate.pattern.path(1003), channel("G", nudged)(plate_frame(1003)))
    made.write()
    bench.ask(input_hashes=hashes)
    assert [w for w in bench.run().warnings if "replaced" in w] == [
        "the plate's frames 1003 were replaced after the job was submitted"
    ]


# Alpha


def test_an_alpha_of_the_tasks_passes_and_one_of_nobodys_is_refused(bench, hashed: bool) -> None:
    made = Made(bench, hashed=hashed)
    made.write(alpha=0.5)
    bench.run()
    bench.ask(makes_alpha=False, version=replace(bench.request.version, number=2, folder=bench.root / "v002"))
    with pytest.raises(PublishRefused, match="channels A differ"):
        bench.run()


def test_making_an_alpha_frees_no_other_channel(bench, hashed: bool) -> None:
    made = Made(bench, hashed=hashed)
    made.write(alpha=0.5)
    made.spoil(channel("B", nudged))
    assert made.refusal() == {"untouched pixels": "1003: channels B differ from the plate's"}


def without_alpha(frame: int) -> Frame:
    return channel("A", lambda _: None)(plate_frame(frame))


def test_a_plate_without_alpha_may_get_one_from_the_task_alone(bench, hashed: bool) -> None:
    made = Made(bench, hashed=hashed)
    made.plate(without_alpha)
    made.write(alpha=0.5)
    bench.ask(makes_alpha=False)
    assert "channel A belongs to no layer" in made.refusal()["channels and types"]
    bench.ask(makes_alpha=True)
    bench.run()


def as_float(frame: int) -> Frame:
    source = plate_frame(frame).parts[0]
    return Frame((replace(source, channels={n: p.astype(np.float32) for n, p in source.channels.items()}),))


def test_a_float_plate_takes_an_alpha_and_a_picture(bench, hashed: bool) -> None:
    made = Made(bench, windows=(WIDE, WIDE_DISPLAY), hashed=hashed)
    made.plate(as_float)
    made.write(rgb=0.3, alpha=1 / 3)
    bench.run()
    main = read_frame(bench.request.version.pattern.path(1003)).main
    assert (main.channels["A"] == np.float32(1 / 3)).all()


def test_an_alpha_in_a_later_part_is_not_the_pictures(bench) -> None:
    """Only the picture's own A is the task's: a part beside it with an A of its own stays the plate's."""
    made = Made(bench)
    other = plane(DATA, 0.25).astype(np.float16)

    def two(frame: int) -> Frame:
        source = plate_frame(frame).parts[0]
        return Frame((replace(source, name="beauty"), Part("other", {}, {"A": other}, DATA, DISPLAY)))

    made.plate(two)
    made.write(alpha=0.5)
    bench.run()
    made.spoil(channel("A", nudged, part=1))
    bench.ask(version=replace(bench.request.version, number=2, folder=bench.root / "v002"))
    with pytest.raises(PublishRefused, match="1003: channels A differ"):
        bench.run()
