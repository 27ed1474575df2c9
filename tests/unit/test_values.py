"""Values refuse what they can't mean."""

from __future__ import annotations

import pickle

import pytest

from pipeline.colorspace import interop_id
from pipeline.errors import Fault, PlateError, SubmissionRefused
from pipeline.frames import FrameRange, FrameRangeError
from pipeline.layer import layers_of
from pipeline.naming import FolderTemplate, TemplateError
from pipeline.plate import FramePattern
from pipeline.rate import FrameRate, RateError
from pipeline.shot import Shot, ShotNameError


@pytest.mark.parametrize("text", ["a", "1-", "5-1", "1-9x0", "1--", "1001-1000000000", "1,,2", "1.5"])
def test_a_text_that_is_no_frame_range_is_refused(text: str) -> None:
    with pytest.raises(FrameRangeError):
        FrameRange.parse(text)


def test_frame_ranges_read_as_artists_write_them() -> None:
    assert str(FrameRange.parse("1001-1004, 1010-1014x2,-3--1")) == "-3--1,1001-1004,1010-1014x2"
    assert list(FrameRange.parse("-2-1")) == [-2, -1, 0, 1]
    assert len(FrameRange.parse("")) == 0


@pytest.mark.parametrize("rate", [0, -24, float("nan"), float("inf"), "24/0", "fast", 100_000, "1e99999999", "24/00"])
def test_a_number_that_is_no_rate_is_refused(rate: float | str) -> None:
    with pytest.raises(RateError):
        FrameRate.of(rate)


@pytest.mark.parametrize(
    "text",
    [
        "../{show}/{shot}/{product}/{version}",
        "/x/{show}{shot}{product}{version}",
        "{show}/{version}",
        "{show}/{shot}/{product}/{version}/{user}",
    ],
)
def test_a_template_that_could_escape_or_collide_is_refused(text: str) -> None:
    with pytest.raises(TemplateError):
        FolderTemplate(text)


@pytest.mark.parametrize("name", ["", "..", "a/b", "a_b", ".hidden", "a" * 65, "a..b", "sh 010"])
def test_a_shot_name_that_a_path_cannot_carry_is_refused(name: str) -> None:
    with pytest.raises(ShotNameError):
        Shot(show="show", shot=name)


@pytest.mark.parametrize("text", ["/p/##/a.####.exr", "/p/a.####.%04d.exr"])
def test_a_pattern_with_two_numbers_is_refused(text: str) -> None:
    with pytest.raises(PlateError):
        FramePattern.parse(text)


def test_layers_are_grouped_and_colours_ordered() -> None:
    layers = layers_of(["B", "G", "R", "A", "matte.A", "cryptoObject00.R"])
    assert [(layer.label, layer.channels) for layer in layers] == [
        ("rgba", ("R", "G", "B", "A")),
        ("matte", ("A",)),
        ("cryptoObject00", ("R",)),
    ]
    assert layers[1].full_names() == ("matte.A",)


def test_colour_spaces_are_known_by_every_usual_name() -> None:
    assert {interop_id(n) for n in ("ACEScg", "lin_ap1_scene", "acescg")} == {"lin_ap1_scene"}
    with pytest.raises(PlateError):
        interop_id("my own log")


def test_errors_travel_between_processes_whole() -> None:
    refused = SubmissionRefused([Fault("plate", "is missing", "give --plate"), Fault("key 1001", "is empty")])
    assert pickle.loads(pickle.dumps(refused)).faults == refused.faults
    again = pickle.loads(pickle.dumps(PlateError("what", "do")))
    assert (type(again), again.message, again.hint) == (PlateError, "what", "do")
