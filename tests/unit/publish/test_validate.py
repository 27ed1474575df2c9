"""Every validator refuses its own fault, names frame and channel, and leaves nothing behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.frames import FrameRange
from pipeline.media.exr import Frame, Part, write_frame
from pipeline.media.exr_header import timecode_attribute
from pipeline.media.image import read_image
from pipeline.plate import FramePattern, Window
from pipeline.publish import validate
from pipeline.publish.run import PublishRefused
from pipeline.rate import FrameRate

ONE = FrameRange.of([1003])


def refusal(bench: Any) -> dict[str, str]:
    """What each check said; nothing may be left in the publish root or the scratch."""
    with pytest.raises(PublishRefused) as caught:
        bench.run()
    assert bench.left() == []
    assert list(bench.request.scratch.iterdir()) == []
    return {fault.where: fault.message for fault in caught.value.faults}


def relabelled(bench: Any, **attributes: Any) -> Any:
    """Header attributes replaced, or (None) taken away."""

    def change(frame: Frame) -> Frame:
        merged = {**frame.parts[0].header, **attributes}
        return bench.with_part(frame, header={k: v for k, v in merged.items() if v is not None})

    return change


def test_a_clean_version_passes_every_validator(bench) -> None:
    published = bench.run()
    assert published.warnings == ()
    assert published.layers == ("rgba", "depth", "matte")


def test_a_missing_frame_is_refused(bench) -> None:
    bench.ask(produced={f: p for f, p in bench.request.produced.items() if f != 1003})
    assert refusal(bench) == {"frames whole": "1003: was not made"}


def test_a_frame_cut_off_or_zeroed_at_its_end_is_refused(bench) -> None:
    path: Path = bench.request.produced[1003]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4])
    assert "1003" in refusal(bench)["frames whole"]
    path.write_bytes(whole[:-300] + bytes(300))
    assert "1003" in refusal(bench)["frames whole"]


def test_a_plate_frame_that_went_away_is_told(bench) -> None:
    bench.request.plate.pattern.path(1002).unlink()
    assert "can't be read any more" in refusal(bench)["frames whole"]


def test_frames_that_nobody_asked_for_are_refused(bench) -> None:
    bench.ask(frames=FrameRange.span(1001, 1004))
    assert refusal(bench) == {"frame range": "1005: was made, but 1001-1004 was asked for"}


def test_a_request_for_no_frames_is_refused(bench) -> None:
    bench.ask(frames=FrameRange(), produced={})
    assert "no frames" in refusal(bench)["frame range"]


@pytest.mark.parametrize("which", ["data_window", "display_window"])
def test_another_window_is_refused(bench, which) -> None:
    moved = {"data_window": Window(0, 0, 31, 23), "display_window": Window(0, 0, 99, 99)}
    bench.spoil(lambda frame: bench.with_part(frame, **{which: moved[which]}), ONE)
    said = refusal(bench)["resolution and windows"]
    assert said.startswith("1003: ")
    assert which.replace("_", " ") in said


def test_a_channel_that_is_gone_or_changed_its_type_is_refused(bench) -> None:
    bench.spoil(lambda frame: bench.with_channels(frame, {"A": None}), ONE)
    assert refusal(bench)["channels and types"] == "1003: channel A is gone"

    def halved(frame: Frame) -> Frame:
        return bench.with_channels(frame, {"depth.Z": frame.parts[0].channels["depth.Z"].astype(np.float16)})

    bench.spoil(halved, ONE)
    assert refusal(bench) == {"channels and types": "1003: channel depth.Z is half, the plate's is float"}


def test_a_channel_of_no_added_layer_or_a_missing_layer_is_refused(bench) -> None:
    bench.spoil(lambda frame: bench.with_channels(frame, {"junk.A": np.zeros((24, 32), np.float16)}), ONE)
    assert "junk.A belongs to no layer" in refusal(bench)["channels and types"]
    bench.spoil(lambda frame: bench.with_channels(frame, {"matte.A": None}), ONE)
    assert refusal(bench)["channels and types"] == "1003: the added layer matte is missing"


def test_an_added_layer_of_integers_is_refused(bench) -> None:
    bench.spoil(lambda frame: bench.with_channels(frame, {"matte.A": np.ones((24, 32), np.uint32)}), ONE)
    assert "matte.A is uint" in refusal(bench)["channels and types"]


def test_another_part_is_refused(bench) -> None:
    def doubled(frame: Frame) -> Frame:
        extra = replace(frame.parts[0], name="extra", channels={"u.A": frame.parts[0].channels["A"]})
        return Frame((replace(frame.parts[0], name="main"), extra))

    bench.spoil(doubled, ONE)
    assert "the parts are ['main', 'extra']" in refusal(bench)["channels and types"]


def test_another_codec_is_refused(bench) -> None:
    bench.spoil(lambda frame: frame, ONE, codec="piz")
    assert refusal(bench) == {"codec": "1003: is written as piz, not zips"}


def test_a_wrong_or_missing_colour_tag_is_refused(bench) -> None:
    bench.spoil(relabelled(bench, colorInteropID="lin_ap1_scene"), ONE)
    assert "is tagged 'lin_ap1_scene'" in refusal(bench)["colour tag"]
    bench.spoil(relabelled(bench, colorInteropID=None, chromaticities=None), ONE)
    assert "doesn't say" in refusal(bench)["colour tag"]
    other = (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767)
    bench.spoil(relabelled(bench, chromaticities=other), ONE)
    assert "chromaticities of another space" in refusal(bench)["colour tag"]


def test_either_way_of_saying_the_colour_space_will_do(bench) -> None:
    bench.spoil(relabelled(bench, colorInteropID=None), ONE)
    bench.spoil(relabelled(bench, colorInteropID="Linear Rec.709 (sRGB)", chromaticities=None), FrameRange.of([1004]))
    assert bench.run().colorspace == "lin_rec709_scene"


def test_a_wrong_rate_is_refused(bench) -> None:
    bench.ask(rate=FrameRate.of(25))
    assert "the plate runs at 25" in refusal(bench)["rate and timecode"]
    bench.ask(rate=None)
    bench.spoil(relabelled(bench, framesPerSecond=None), ONE)
    assert "with no rate" in refusal(bench)["rate and timecode"]


def test_a_timecode_that_is_not_the_plates_is_refused(bench) -> None:
    bench.spoil(relabelled(bench, timeCode=timecode_attribute("01:00:00:00")))
    assert refusal(bench)["rate and timecode"].startswith("1002: carries timecode 01:00:00:00")


def test_a_header_key_that_was_lost_or_changed_is_refused(bench) -> None:
    bench.spoil(relabelled(bench, **{"nuke/node_hash": None}), ONE)
    assert "nuke/node_hash" in refusal(bench)["header"]
    bench.spoil(relabelled(bench, owner="somebody else"), ONE)
    assert "owner" in refusal(bench)["header"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_in_the_picture_or_an_added_layer_are_refused(bench, value) -> None:
    def spoilt(frame: Frame) -> Frame:
        plane = frame.parts[0].channels["matte.A"].copy()
        plane[5, 5:8] = value
        return bench.with_channels(frame, {"matte.A": plane})

    bench.spoil(spoilt, ONE)
    assert refusal(bench)["NaN and infinities"] == "1003: channel matte.A has 3 values that are NaN or infinite"

    def burnt(frame: Frame) -> Frame:
        plane = frame.parts[0].channels["G"].copy()
        plane[0, 0] = value
        return bench.with_channels(frame, {"G": plane})

    bench.spoil(burnt, ONE)
    said = refusal(bench)
    assert "channel G has 1 values" in said["NaN and infinities"]
    assert "G differ" in said["untouched pixels"]


def nudged(bench: Any, name: str) -> Any:
    """The smallest change that a channel can have: its last bit, in one pixel."""

    def change(frame: Frame) -> Frame:
        plane = frame.parts[0].channels[name].copy()
        bits = plane.view(np.uint16 if plane.itemsize == 2 else np.uint32)
        bits[4, 4] ^= 1
        return bench.with_channels(frame, {name: plane})

    return change


@pytest.mark.parametrize("channel", ["R", "A"])
@pytest.mark.parametrize("hashed", [False, True], ids=["decoded", "by-hash"])
def test_one_bit_in_an_untouched_channel_is_found(bench, hashes, channel, hashed) -> None:
    if hashed:
        bench.ask(input_hashes=hashes)
    bench.spoil(nudged(bench, channel), ONE)
    assert refusal(bench) == {"untouched pixels": f"1003: channels {channel} differ from the plate's"}


def test_a_frame_known_by_its_hash_is_not_decoded_again(bench, hashes) -> None:
    # With the plate's pixels (not its header) spoilt, only who decodes them can notice.
    path: Path = bench.request.plate.pattern.path(1003)
    data = bytearray(path.read_bytes())
    data[-40:] = bytes(b ^ 0xFF for b in data[-40:])
    path.write_bytes(bytes(data))
    assert "1003" in refusal(bench)["frames whole"]
    bench.ask(input_hashes=hashes)
    bench.run()


def test_a_plate_replaced_before_the_task_read_it_is_warned_about(bench, hashes) -> None:
    bench.ask(input_hashes={**hashes, 1003: hashes[1001]})
    assert bench.run().warnings == ("the plate's frames 1003 were replaced after the job was submitted",)


def test_a_plate_replaced_after_the_task_read_it_is_refused(bench, hashes) -> None:
    other = bench.with_part(bench.plate_frame(1001), header=bench.plate_frame(1003).parts[0].header)
    write_frame(bench.request.plate.pattern.path(1003), other)
    assert list(refusal(bench)) == ["untouched pixels"]


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_a_plate_of_another_format_is_compared_as_the_task_read_it(bench, kind) -> None:
    folder = bench.request.plate.pattern.folder
    pattern = FramePattern(folder, "scan.", 4, f".{kind}")
    window = Window.of_size(32, 24)
    for frame in bench.request.frames:
        picture = np.random.default_rng(frame).integers(0, 65535, (24, 32, 3), np.uint16)
        assert cv2.imwrite(str(pattern.path(frame)), picture)
        read = read_image(pattern.path(frame), colorspace="srgb_rec709_scene")
        made = bench.with_channels(read, {"matte.A": bench.made(frame).parts[0].channels["matte.A"]})
        write_frame(bench.request.produced[frame], made)
    plate = replace(
        bench.request.plate, pattern=pattern, data_window=window, display_window=window, rate=None, timecode=None
    )
    bench.ask(plate=plate, source_colorspace="srgb_rec709_scene", rate=None)
    write_frame(bench.request.produced[1003], nudged(bench, "B")(made))
    assert "1003: channels R, G, B" in refusal(bench)["untouched pixels"]
    read = read_image(pattern.path(1003), colorspace="srgb_rec709_scene")
    matte = bench.made(1003).parts[0].channels["matte.A"]
    write_frame(bench.request.produced[1003], bench.with_channels(read, {"matte.A": matte}))
    assert bench.run().layers == ("rgb", "matte")


def test_a_task_that_changes_the_picture_may_change_nothing_else(bench, hashes) -> None:
    bench.ask(changed_rgb=True, input_hashes=hashes)
    bench.spoil(nudged(bench, "A"), ONE)
    assert refusal(bench) == {"untouched pixels": "1003: channels A differ from the plate's"}
    bench.spoil(nudged(bench, "R"), ONE)
    assert bench.run().frames == bench.request.frames


@pytest.mark.parametrize("value", [1.001, -0.001])
def test_a_matte_outside_zero_to_one_is_refused(bench, value) -> None:
    def beyond(frame: Frame) -> Frame:
        plane = frame.parts[0].channels["matte.A"].copy()
        plane[0, 0] = value
        return bench.with_channels(frame, {"matte.A": plane})

    bench.spoil(beyond, ONE)
    said = refusal(bench)
    assert list(said) == ["matte range"]
    assert said["matte range"].startswith("layer matte: 1003: reaches from")


def empty(bench: Any) -> Any:
    return lambda frame: bench.with_channels(frame, {"matte.A": np.zeros((24, 32), np.float16)})


def test_a_matte_that_is_empty_on_every_frame_is_refused_and_on_some_is_not(bench) -> None:
    bench.spoil(empty(bench))
    assert refusal(bench)["matte content"] == "layer matte: is empty on every frame"
    bench.spoil(lambda frame: frame, FrameRange.span(1001, 1002))
    bench.run()


def test_a_matte_that_never_changes_is_refused_only_when_its_keys_do(bench) -> None:
    bench.spoil(lambda frame: bench.with_channels(frame, {"matte.A": np.eye(24, 32, dtype=np.float16)}))
    assert refusal(bench) == {"matte motion": "layer matte: is the same on every frame, although its keys differ"}
    for key in bench.request.record["keys"]["matte"].values():
        key["hash"] = "same"
    bench.run()


def flickering(bench: Any) -> None:
    bench.spoil(empty(bench), FrameRange.of([1002, 1004]))


def test_a_flickering_matte_is_warned_about_and_gated_only_where_the_job_says(bench) -> None:
    flickering(bench)
    bench.ask(flicker_warn_px=1.0)
    published = bench.run()
    assert len(published.warnings) == 1
    assert "flickers by" in published.warnings[0]
    assert published.report["flicker"]["matte"]["score"] > 1.0


def test_flicker_above_the_jobs_bound_is_refused(bench) -> None:
    flickering(bench)
    bench.ask(flicker_most_px=1.0)
    assert "at most 1 is allowed" in refusal(bench)["flicker"]


def test_all_faults_are_told_at_once(bench) -> None:
    bench.spoil(lambda frame: relabelled(bench, owner=None)(nudged(bench, "R")(frame)), ONE, codec="piz")
    with pytest.raises(PublishRefused) as caught:
        bench.run()
    assert [f.where for f in caught.value.faults] == ["codec", "header", "untouched pixels"]
    assert "demo_sh010_roto_v001 is not published: 3 checks refuse it" in caught.value.message
    assert "submit it again" in caught.value.hint


def test_frames_with_the_same_fault_are_told_together(bench) -> None:
    bench.spoil(lambda frame: frame, FrameRange.of([1001, 1002, 1003, 1005]), codec="none")
    assert refusal(bench)["codec"] == "1001-1003,1005: is written as none, not zips"


def test_every_validator_has_a_label_of_its_own_and_is_listed() -> None:
    classes = [v for v in vars(validate).values() if isinstance(v, type) and v.__module__ == validate.__name__]
    listed = {c for c in classes if c not in (validate.PlateValidator, validate.MatteValidator)}
    assert listed == set(validate.PLUGINS)
    assert len({plugin.label for plugin in validate.PLUGINS}) == len(validate.PLUGINS)


def test_a_multi_part_plate_keeps_its_parts(bench) -> None:
    def two_parts(frame: int) -> Frame:
        main = bench.plate_frame(frame).parts[0]
        ids = np.full((24, 32), 3e38, np.float32).view(np.uint32).view(np.float32)
        crypto = Part("crypto", {"cryptomatte/x": "{}"}, {"crypto00.R": ids}, main.data_window, main.display_window)
        return Frame((replace(main, name="beauty"), crypto))

    for frame in bench.request.frames:
        write_frame(bench.request.plate.pattern.path(frame), two_parts(frame))
        made = two_parts(frame)
        added = bench.made(frame).parts[0].channels["matte.A"]
        main = replace(made.parts[0], channels={**made.parts[0].channels, "matte.A": added})
        write_frame(bench.request.produced[frame], Frame((main, made.parts[1])))
    assert bench.run().layers == ("rgba", "depth", "matte", "crypto00")
