"""The record of a version: complete, plain, and the same text for the same facts."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from pipeline.jobs.spec import JobSpec, KeySpec, PlateSpec, TakeSpec
from pipeline.provenance import SCHEMA, record, software, to_plain, to_text

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


def spec() -> JobSpec:
    return JobSpec(
        task="roto",
        studio="local",
        show="demo",
        sequence="",
        shot="sh010",
        plate=PlateSpec(
            pattern="/plates/sh010.####.exr",
            frames="1001-1002",
            layers=(("", ("R", "G", "B"), 0),),
            data_window=(0, 0, 9, 9),
            display_window=(0, 0, 9, 9),
            colorspace="lin_ap1_scene",
            source_colorspace="lin_ap1_scene",
            rate="24",
        ),
        frames="1001-1002",
        keys=(
            KeySpec(frame=1001, path="/keys/a.exr", hash="aa", coverage=0.25),
            KeySpec(frame=1002, path="/keys/b.exr", hash="bb", coverage=0.5, object="hand"),
        ),
        edit={"clip": "sh010"},
        cut_path="/cuts/cut.otio",
        cut_sha256="c0ffee",
        takes=(TakeSpec(index=0, name="take-1", seed=3, parameters={"edge": 1.5}),),
        model="roto@production",
        codec="zips",
        publish_root="/publish",
        input_hashes={1001: "h1", 1002: "h2"},
    )


def made(job: int = 4) -> dict:
    asked = spec().model_dump(mode="json")
    return record(
        job=job, spec=asked, take=asked["takes"][0], model={"name": "roto"}, fit={"iterations": 300}, timings={"fit_s": 9.5},
        now=NOW,
    )  # fmt: skip


def test_the_record_holds_what_is_needed_to_make_the_version_again() -> None:
    found = made()
    assert found["schema"] == SCHEMA
    assert (found["job"], found["task"], found["seed"], found["parameters"]) == (4, "roto", 3, {"edge": 1.5})
    assert found["inputs"]["hashes"] == {"1001": "h1", "1002": "h2"}
    assert found["inputs"]["colorspace"] == "lin_ap1_scene"
    assert found["edit"] == {"timeline": "/cuts/cut.otio", "sha256": "c0ffee", "context": {"clip": "sh010"}}
    assert found["keys"]["matte"]["1001"] == {"path": "/keys/a.exr", "hash": "aa", "coverage": 0.25}
    assert list(found["keys"]) == ["hand", "matte"]
    assert found["created"] == "2026-03-01T12:30:00+00:00"
    assert found["shot"] == {"sequence": "", "shot": "sh010", "show": "demo", "studio": "local"}


def test_a_job_without_a_cut_has_no_edit() -> None:
    asked = {**spec().model_dump(mode="json"), "edit": None}
    found = record(job=1, spec=asked, take=asked["takes"][0], model={}, fit={}, timings={}, now=NOW)
    assert found["edit"] is None


def test_the_same_facts_give_the_same_text_and_it_reads_back() -> None:
    assert to_text(made()) == to_text(dict(reversed(made().items())))
    assert to_text(made()) != to_text(made(job=5))
    assert json.loads(to_text(made())) == made()


def test_the_time_is_told_in_utc() -> None:
    asked = spec().model_dump(mode="json")
    local = datetime(2026, 3, 1, 14, 30, tzinfo=timezone(timedelta(hours=2)))
    found = record(job=1, spec=asked, take=asked["takes"][0], model={}, fit={}, timings={}, now=local)
    assert found["created"] == "2026-03-01T12:30:00+00:00"


def test_the_software_that_makes_pixels_is_named_with_its_version() -> None:
    import numpy

    assert software()["numpy"] == numpy.__version__
    assert {"python", "platform", "OpenEXR", "platewright"} <= set(software())


def test_numbers_that_json_has_not_become_null_and_strange_values_are_refused() -> None:
    assert to_plain({2: float("nan"), 1: (float("inf"), 0.5, Path("a/b"))}) == {"1": [None, 0.5, "a/b"], "2": None}
    with pytest.raises(TypeError, match="object"):
        to_plain({"x": object()})
