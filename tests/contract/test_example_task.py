"""The worked example of docs/extending.md: a task in a package of its own, found by its entry point, really run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.media.exr import read_frame
from pipeline.plate import FramePattern
from tests.plates import SmallPlate, write_small_plate

EXAMPLE = Path(__file__).parents[2] / "examples" / "task_luma_key"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder as pip leaves it: the package, and beside it the entry points that its pyproject declares."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    folder = tmp_path / "site"
    shutil.copytree(EXAMPLE / "luma_key", folder / "luma_key")
    info = folder / f"luma_key-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    (info / "entry_points.txt").write_text(
        "\n".join(f"[{group}]\n" + "\n".join(f"{k} = {v}" for k, v in points.items()) for group, points in groups)
    )
    return folder


def plates(site: Path, *arguments: str) -> Any:
    """What a command of ours prints as JSON, with the example installed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PLATEWRIGHT_")}
    run = subprocess.run(
        [sys.executable, "-m", "farm.cli.main", *arguments, "--json"],
        env={**environment, "PYTHONPATH": str(site), "PLATEWRIGHT_DATA": str(site / "data")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return json.loads(run.stdout)


def test_the_form_of_the_example_is_drawn_from_its_declaration(site: Path) -> None:
    form = plates(site, "form", "luma_key")
    assert [(p["name"], p["kind"]) for p in form["parameters"]] == [
        ("source", "choice"),
        ("threshold", "float"),
        ("softness", "float"),
        ("invert", "bool"),
    ]


def test_the_example_publishes_a_version(site: Path, tmp_path: Path) -> None:
    plate: SmallPlate = write_small_plate(tmp_path / "shot", count=3)
    ended = plates(
        site, "run", "luma_key", "--plate", str(plate.pattern), "--threshold", "0.4", "--softness", "0",
        "--source", "red", "--out", str(tmp_path / "out"),
    )  # fmt: skip
    assert ended["state"] == "succeeded"
    assert ended["version"]["name"] == "show_sh010_lumakey_v001"
    assert ended["version"]["layers"] == ["rgb", "matte"]
    pattern = FramePattern.parse(ended["version"]["pattern"])
    assert pattern is not None
    for frame in plate.frames:
        channels = read_frame(pattern.path(frame)).main.channels
        assert np.array_equal(channels["matte.A"], channels["R"].astype(np.float32) >= 0.4)
        assert 0 < channels["matte.A"].mean() < 1
