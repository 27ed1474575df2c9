"""Attributes between bytes and plain values."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PlateError
from pipeline.media.exr_header import Attribute, decode, encode, timecode_attribute, timecode_text
from pipeline.plate import Window

_INT = st.integers(-(2**31), 2**31 - 1)
_FLOAT = st.floats(width=32, allow_nan=False)
_VALUES = st.one_of(
    st.text(),
    _INT,
    _FLOAT,
    st.builds(Fraction, _INT, st.integers(1, 2**32 - 1)),
    st.builds(Window, _INT, _INT, _INT, _INT),
    st.sampled_from([2, 3, 4, 8, 9, 16]).flatmap(lambda n: st.tuples(*[_FLOAT] * n)),
    st.sampled_from([2, 3]).flatmap(lambda n: st.tuples(*[_INT] * n)),
    st.lists(st.text(), min_size=1),
    st.lists(_FLOAT, min_size=1),
)


@given(_VALUES)
def test_plain_values_round_trip(value: Any) -> None:
    attribute = encode(value)
    assert attribute is not None
    back = decode(attribute)
    assert back == value
    assert type(back) is type(value)


_KINDS = [
    "string",
    "int",
    "float",
    "rational",
    "box2i",
    "v2f",
    "v3i",
    "m33f",
    "floatvector",
    "stringvector",
    "double",
    "mine",
]


@given(st.sampled_from(_KINDS), st.binary(max_size=80))
def test_any_bytes_of_any_attribute_come_back_as_they_were(kind: str, data: bytes) -> None:
    attribute = Attribute(kind, data)
    assert encode(decode(attribute)) == attribute


def test_a_rational_that_is_not_reduced_keeps_its_bytes() -> None:
    attribute = Attribute("rational", struct.pack("<iI", 48, 2))
    assert decode(attribute) == attribute


@pytest.mark.parametrize("value", [None, {}, object(), (1, "a"), (1.0,) * 5, [], [1], 2**31, 1e300, Fraction(2**40, 1)])
def test_what_no_exr_type_holds_is_none(value: Any) -> None:
    assert encode(value) is None


@given(st.tuples(*[st.integers(0, n) for n in (23, 59, 59, 29)]), st.booleans())
def test_timecodes_round_trip(fields: tuple[int, ...], drop: bool) -> None:
    h, m, s, f = fields
    text = f"{h:02d}:{m:02d}:{s:02d}{';' if drop else ':'}{f:02d}"
    assert timecode_text(timecode_attribute(text)) == text


@pytest.mark.parametrize("text", ["", "1", "01:02:03", "25:00:00:00", "00:60:00:00", "aa:bb:cc:dd", "00:00:00:99"])
def test_a_text_that_is_no_timecode_is_refused(text: str) -> None:
    with pytest.raises(PlateError):
        timecode_attribute(text)


@pytest.mark.parametrize("value", [None, "01:02:03:04", Attribute("int", b"1234"), Attribute("timecode", b"12")])
def test_what_is_no_timecode_attribute_reads_as_none(value: Any) -> None:
    assert timecode_text(value) is None
