"""A timecode so many frames on, against OpenTimelineIO's own arithmetic."""

from __future__ import annotations

import struct
from fractions import Fraction

import opentimelineio as otio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.media.exr_header import Attribute, shift_timecode, timecode_attribute, timecode_text
from pipeline.rate import FrameRate

time = otio.opentime
DAY = 24 * 3600
FILM, PAL, NTSC_FILM, NTSC, THIRTY = (
    FrameRate(Fraction(*rate)) for rate in ((24, 1), (25, 1), (24000, 1001), (30000, 1001), (30, 1))
)
PLAIN = {FILM: 24, PAL: 25, NTSC_FILM: 24, NTSC: 30, THIRTY: 30}
"""Rates without dropped labels → the whole rate at which their labels count."""
DROPPED_PER_DAY = 24 * 6 * 17982
"""Frames of a day at 29.97, drop-frame."""


def moved(text: str, frames: int, rate: FrameRate) -> str | None:
    return timecode_text(shift_timecode(timecode_attribute(text), frames, rate))


def label(count: int, base: int) -> str:
    return str(time.to_timecode(time.RationalTime(count % (DAY * base), base), base, False))


def drop_label(count: int) -> str:
    rate = 30000 / 1001
    return str(time.to_timecode(time.RationalTime(count, rate), rate, True))


@given(st.sampled_from(sorted(PLAIN, key=str)), st.integers(0, DAY * 24 - 1), st.integers(-3_000_000, 3_000_000))
def test_labels_count_on_at_the_whole_rate_and_a_day_wraps(rate: FrameRate, count: int, frames: int) -> None:
    base = PLAIN[rate]
    assert moved(label(count, base), frames, rate) == label(count + frames, base)


@given(st.integers(0, DROPPED_PER_DAY - 1), st.integers(0, DROPPED_PER_DAY - 1))
def test_drop_frame_labels_skip_what_opentimelineio_skips(count: int, other: int) -> None:
    assert moved(drop_label(count), other - count, NTSC) == drop_label(other)


@pytest.mark.parametrize(
    ("text", "frames", "then"),
    [
        ("01:00:59;29", 1, "01:01:00;02"), ("01:01:00;02", -1, "01:00:59;29"), ("01:09:59;29", 1, "01:10:00;00"),
        ("01:10:00;00", -1, "01:09:59;29"), ("23:59:59;29", 1, "00:00:00;00"), ("00:00:00;00", -1, "23:59:59;29"),
        ("00:00:00;00", 17982, "00:10:00;00"), ("00:00:00;00", 1800, "00:01:00;02"), ("01:02:03;04", 0, "01:02:03;04"),
    ],
)  # fmt: skip
def test_drop_frame_skips_two_labels_each_minute_but_the_tenth(text: str, frames: int, then: str) -> None:
    assert moved(text, frames, NTSC) == then


@given(st.integers(0, DROPPED_PER_DAY - 1))
def test_a_skipped_label_is_never_written(count: int) -> None:
    made = moved("00:00:00;00", count, NTSC)
    assert made is not None
    minute, frame = int(made[3:5]), int(made[9:])
    assert not (minute % 10 and made[6:8] == "00" and frame < 2), made


@given(st.integers(0, DROPPED_PER_DAY - 1), st.integers(-100_000, 100_000))
def test_there_and_back_is_where_one_was(count: int, frames: int) -> None:
    there = shift_timecode(timecode_attribute(drop_label(count)), frames, NTSC)
    assert timecode_text(shift_timecode(there, -frames, NTSC)) == drop_label(count)


@pytest.mark.parametrize(
    "value", ["01:00:00:00", b"01:00:00:00", None, 7, Attribute("string", b"01:00:00:00"), Attribute("timecode", b"\0")]
)
def test_what_is_no_timecode_is_not_shifted(value: object) -> None:
    assert shift_timecode(value, 1, FILM) is None


@pytest.mark.parametrize("rate", [Fraction(48), Fraction(50), Fraction(60), Fraction(60000, 1001)])
def test_above_thirty_a_label_stands_for_a_pair_and_is_left_out(rate: Fraction) -> None:
    assert shift_timecode(timecode_attribute("01:00:00:00"), 1, FrameRate(rate)) is None


def test_user_data_and_the_flags_that_say_what_it_is_stay() -> None:
    word = struct.unpack("<I", timecode_attribute("01:00:00;10").data[:4])[0]
    flags = 1 << 7 | 1 << 15 | 1 << 23 | 1 << 30 | 1 << 31
    given_ = Attribute("timecode", struct.pack("<II", word | flags, 0xDEADBEEF))
    made = shift_timecode(given_, 5, NTSC)
    assert made is not None
    assert timecode_text(made) == "01:00:00;15"
    first, user = struct.unpack("<II", made.data)
    assert (first & flags, user) == (flags, 0xDEADBEEF)


def test_a_shift_by_nothing_changes_no_bit() -> None:
    given_ = Attribute("timecode", struct.pack("<II", 0x81234567 & ~0x30, 5))
    made = shift_timecode(given_, 0, THIRTY)
    assert made is not None
    assert timecode_text(made) == timecode_text(given_)
