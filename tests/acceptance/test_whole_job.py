"""A real plate and its cut go in, a published version comes out: real dispatcher, real worker, real session, real EXR."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import opentimelineio as otio
import pytest

from pipeline.frames import FrameRange
from pipeline.media.exr import probe, read_frame
from pipeline.plate import FramePattern
from tests.acceptance.farmhouse import Farmhouse, parsed
from tests.plates import SmallPlate, disc, write_small_plate


@pytest.fixture
def plate(tmp_path: Path) -> SmallPlate:
    return write_small_plate(tmp_path / "shot", count=10)


def check_version(outcome: dict, plate: SmallPlate, frames: FrameRange) -> None:
    """The version is whole, its mattes are right, and every pixel of the plate is the plate's own."""
    assert outcome["state"] == "succeeded", outcome
    version = outcome["version"]
    assert FrameRange.parse(version["frames"]) == frames
    assert version["layers"] == ["rgb", "matte"]
    assert version["colorspace"] == "lin_rec709_scene"
    assert [entry["frame"] for entry in outcome["report"]["frames"]] == list(frames)
    assert all(0 <= entry["confidence"] <= 1 for entry in outcome["report"]["frames"])
    pattern = FramePattern.parse(version["pattern"])
    assert pattern is not None
    assert sorted(p.name for p in Path(version["path"]).glob("*.exr")) == [pattern.name(f) for f in frames]
    for frame in frames:
        made, source = read_frame(pattern.path(frame)).main, read_frame(plate.pattern.path(frame)).main
        for name in "RGB":
            assert made.channels[name].dtype == np.float16
            assert made.channels[name].tobytes() == source.channels[name].tobytes(), f"{name} of {frame} changed"
        assert made.header["nuke/input/filename"] == "sh010"
        matte = made.channels["matte.A"].astype(np.float32)
        exact = disc(frame, plate.width, plate.height)
        union = np.maximum(matte > 0.5, exact > 0.5).sum()
        assert (np.minimum(matte > 0.5, exact > 0.5)).sum() / union > 0.8, f"the matte of frame {frame} is off"


def test_a_plate_and_its_cut_become_a_published_version_through_a_real_farm(
    farmhouse: Farmhouse, plate: SmallPlate
) -> None:
    farmhouse.serve("--workers", "1")
    run = farmhouse.plates(
        "submit", "roto", "--plate", str(plate.pattern), "--cut", str(plate.cut), "--clip", "sh010", "--handles", "0",
        *plate.key_arguments()[2:-2], "--iterations", "8", "--seed", "3", "--show", "demo", "--chunk", "3", "--wait", "--json",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    outcome = parsed(run)
    frames = FrameRange.span(1002, 1009)
    check_version(outcome, plate, frames)
    version = outcome["version"]
    assert version["name"] == "demo_sh010_roto_v001"
    assert Path(version["path"]) == farmhouse.published / "demo" / "sh010" / "roto" / "v001"

    sidecar = json.loads(Path(version["sidecar"]).read_text())
    assert sidecar["schema"].startswith("platewright.provenance/")
    assert sidecar["seed"] == 3

    clip = next(iter(otio.adapters.read_from_file(version["otio"]).find_clips()))
    assert clip.active_media_reference_key == "platewright"
    assert clip.media_reference.metadata["platewright"]["job"] == outcome["job"]

    first = probe(Path(version["path"]) / "demo_sh010_roto_v001.1002.exr").main
    assert str(first.attributes["framesPerSecond"]) in ("24", "24/1")

    listed = parsed(farmhouse.plates("versions", "--json"))
    assert [v["name"] for v in listed] == ["demo_sh010_roto_v001"]
    log = farmhouse.plates("log", str(outcome["job"]))
    assert log.returncode == 0
    assert "== fit" in log.stdout
    assert "== publish" in log.stdout
    farmhouse.wait(
        lambda: not list(farmhouse.published.glob(".platewright/work/*")), 10, "the finished job's work is not cleared"
    )


def test_the_same_job_runs_whole_in_one_process(farmhouse: Farmhouse, plate: SmallPlate) -> None:
    out = farmhouse.folder / "out"
    run = farmhouse.plates(
        "run",
        "roto",
        "--plate",
        str(plate.pattern.path(1004)),
        *plate.key_arguments(),
        "--iterations",
        "0",
        "--out",
        str(out),
        "--json",
    )
    assert run.returncode == 0, run.stderr
    check_version(parsed(run), plate, plate.frames)
    assert not list(out.glob(".platewright/work/*"))
    again = farmhouse.plates(
        "run",
        "roto",
        "--plate",
        str(plate.pattern.folder),
        *plate.key_arguments(),
        "--iterations",
        "0",
        "--out",
        str(out),
        "--json",
    )
    assert parsed(again)["version"]["name"].endswith("_v002"), "a version on disk is never overwritten"


def test_two_keyed_objects_give_a_layer_each_and_their_union(farmhouse: Farmhouse, plate: SmallPlate) -> None:
    keys = [
        part
        for frame, path in plate.keys.items()
        for part in ("--key", f"hero:{frame}={path}", "--key", f"prop:{frame}={path}")
    ]
    run = farmhouse.plates(
        "run",
        "roto",
        "--plate",
        str(plate.pattern),
        *keys,
        "--iterations",
        "0",
        "--out",
        str(farmhouse.folder / "out"),
        "--json",
    )
    assert run.returncode == 0, run.stderr
    assert sorted(parsed(run)["version"]["layers"]) == ["hero", "matte", "prop", "rgb"]


def test_a_dry_run_checks_and_plans_but_starts_nothing(farmhouse: Farmhouse, plate: SmallPlate) -> None:
    farmhouse.serve()
    run = farmhouse.plates(
        "submit", "roto", "--plate", str(plate.pattern), *plate.key_arguments(), "--chunk", "4", "--dry-run", "--json"
    )
    assert run.returncode == 0, run.stderr
    plan = parsed(run)
    assert [(s["step"], s["chunks"]) for s in plan["steps"]] == [("fit", 1), ("infer", 3), ("publish", 1)]
    assert farmhouse.client().get("/v1/jobs") == []


def test_the_same_key_is_the_same_job_and_another_request_under_it_is_refused(
    farmhouse: Farmhouse, plate: SmallPlate
) -> None:
    farmhouse.serve()
    arguments = [
        "submit",
        "roto",
        "--plate",
        str(plate.pattern),
        *plate.key_arguments(),
        "--once",
        "sh010-roto",
        "--json",
    ]
    first, second = parsed(farmhouse.plates(*arguments)), parsed(farmhouse.plates(*arguments))
    assert (first["created"], second["created"]) == (True, False)
    assert first["job"] == second["job"]
    other = farmhouse.plates(*arguments, "--feather", "2")
    assert other.returncode == 3
    assert len(farmhouse.client().get("/v1/jobs")) == 1
