"""Takes, keyed numbers, sounds, bounds and reuse through a real farm: dispatcher, worker and session as processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import soundfile

from integrations._shared.client import DispatcherError
from pipeline.frames import FrameRange
from pipeline.media.exr import read_frame, write_frame
from pipeline.plate import FramePattern
from tests.acceptance.farmhouse import Farmhouse, parsed
from tests.plates import SmallPlate, write_small_plate
from tests.unit.media.test_audio import steps

ROOT = Path(__file__).parents[2]
COUNT = 8
REFUSED = 3
"""The exit code of a submission with faults."""


def install(site: Path, package: Path, name: str, version: str, points: dict[str, str]) -> None:
    """Lay a task's package into a folder as pip leaves it."""
    shutil.copytree(package, site / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    info = site / f"{package.name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    listed = "\n".join(f"{point} = {value}" for point, value in points.items())
    (info / "entry_points.txt").write_text(f"[platewright.tasks]\n{listed}\n")


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farmhouse]:
    """A farm of one worker with two more tasks installed, and a bounds file that asks for nothing yet."""
    folder = tmp_path_factory.mktemp("farm")
    site = folder / "site"
    site.mkdir()
    project = tomllib.loads((ROOT / "examples/task_luma_key/pyproject.toml").read_text())["project"]
    points = project["entry-points"]["platewright.tasks"]
    install(site, ROOT / "examples/task_luma_key/luma_key", project["name"], project["version"], points)
    mean = {"mean_key": "mean_key.definition:MEAN_KEY"}
    install(site, ROOT / "tests/acceptance/tasks/mean_key", "mean-key", "1.0.0", mean)
    (folder / "bounds.json").write_text("{}")
    house = Farmhouse(
        folder,
        PYTHONPATH=os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
        PLATEWRIGHT_BOUNDS_FILE=str(folder / "bounds.json"),
        PLATEWRIGHT_LEASE_S="4",
        PLATEWRIGHT_REAP_S="0.5",
        PLATEWRIGHT_RETRY_BACKOFF_S="0.2",
        OMP_NUM_THREADS="1",
    )
    try:
        house.serve("--workers", "1")
        yield house
    finally:
        house.close()


@pytest.fixture
def plate(tmp_path: Path) -> SmallPlate:
    return write_small_plate(tmp_path / "shot", count=COUNT)


def submit(farm: Farmhouse, task: str, plate: SmallPlate, shot: str, *more: str) -> subprocess.CompletedProcess[str]:
    return farm.plates("submit", task, "--plate", str(plate.pattern), "--shot", shot, *more, "--wait", "--json")


def done(farm: Farmhouse, task: str, plate: SmallPlate, shot: str, *more: str) -> dict[str, Any]:
    """The outcome of a job that must succeed."""
    run = submit(farm, task, plate, shot, *more)
    assert run.returncode == 0, run.stdout + run.stderr
    outcome: dict[str, Any] = parsed(run)
    assert outcome["state"] == "succeeded", outcome
    return outcome


def files(version: dict[str, Any]) -> dict[int, Path]:
    pattern = FramePattern.parse(version["pattern"])
    assert pattern is not None
    return {frame: pattern.path(frame) for frame in FrameRange.parse(version["frames"])}


def mattes(version: dict[str, Any]) -> dict[int, np.ndarray]:
    return {f: read_frame(path).main.channels["matte.A"].astype(np.float32) for f, path in files(version).items()}


def red(plate: SmallPlate) -> dict[int, np.ndarray]:
    return {f: read_frame(plate.pattern.path(f)).main.channels["R"].astype(np.float32) for f in plate.frames}


def sidecar(version: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(version["sidecar"]).read_text())
    return found


def test_a_wedge_of_two_becomes_two_versions_and_a_contact_sheet(farm: Farmhouse, plate: SmallPlate) -> None:
    outcome = done(farm, "mean_key", plate, "wedge", "--wedge", "threshold=0.2,0.8")
    one, two = outcome["takes"]
    assert [take["name"] for take in (one, two)] == ["threshold=0.2", "threshold=0.8"]
    assert one["seed"] == two["seed"], "they differ in what the wedge says, and in nothing else"
    assert [take["version"]["name"] for take in (one, two)] == ["show_wedge_meankey_v001", "show_wedge_meankey_v002"]
    assert outcome["version"] == one["version"]
    assert [sidecar(take["version"])["parameters"]["threshold"] for take in (one, two)] == [0.2, 0.8]
    wide, narrow = mattes(one["version"]), mattes(two["version"])
    assert all(wide[f].mean() > narrow[f].mean() + 0.05 for f in plate.frames)

    picture = farm.client().get_bytes(f"/v1/jobs/{outcome['job']}/sheet.jpg")
    sheet = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    assert sheet is not None
    assert sheet.shape[1] > 5 * 320, "five frames side by side"
    top, bottom = sheet[: sheet.shape[0] // 2].astype(int), sheet[sheet.shape[0] // 2 :].astype(int)
    assert min(top.std(), bottom.std()) > 20, "each take has its row of pictures"
    rows = min(len(top), len(bottom))
    assert np.abs(top[-rows:] - bottom[-rows:]).mean() > 3, "and they show different mattes"

    target = farm.folder / "sheet.jpg"
    run = farm.plates("sheet", str(outcome["job"]), "--out", str(target))
    assert (run.returncode, run.stdout.strip()) == (0, str(target))
    assert target.read_bytes() == picture
    assert run.stderr == ""


def test_a_job_that_has_published_nothing_has_no_sheet(farm: Farmhouse, plate: SmallPlate) -> None:
    request = {"task": "luma_key", "plate": str(plate.pattern), "shot": "waiting", "pool": "nobody"}
    job = farm.submit(request)["job"]
    with pytest.raises(DispatcherError) as error:
        farm.client().get_bytes(f"/v1/jobs/{job}/sheet.jpg")
    assert error.value.status == 404
    run = farm.plates("sheet", str(job), "--out", str(farm.folder / "none.jpg"))
    assert run.returncode != 0
    assert "published nothing" in run.stderr
    assert not (farm.folder / "none.jpg").exists()
    farm.client().post(f"/v1/jobs/{job}/cancel")


def test_a_keyed_number_changes_the_matte_over_the_frames(farm: Farmhouse, plate: SmallPlate) -> None:
    outcome = done(
        farm, "luma_key", plate, "keyed", "--source", "red", "--softness", "0", "--threshold", "1001:0.1,1008:0.8",
        "--chunk", "3",
    )  # fmt: skip
    made, own = mattes(outcome["version"]), red(plate)
    for frame in plate.frames:
        threshold = np.float32(0.1 + (frame - 1001) / 7 * 0.7)
        assert np.array_equal(made[frame], own[frame] >= threshold), f"frame {frame}"
    assert made[1001].mean() > made[1008].mean() + 0.1


def test_the_same_request_again_links_every_frame_and_one_new_plate_frame_makes_three(
    farm: Farmhouse, plate: SmallPlate
) -> None:
    asked = ("mean_key", plate, "again", "--seed", "7", "--threshold", "1001:0.3,1008:0.6")
    first = done(farm, *asked)["version"]
    assert sidecar(first)["content"]["reused"] == ""
    again = done(farm, *asked)
    second = again["version"]
    assert second["name"].endswith("_v002")
    assert sidecar(second)["content"]["reused"] == "1001-1008"
    assert all(files(second)[f].samefile(files(first)[f]) for f in plate.frames)
    assert again["report"]["frames"] == done_report(first)

    frame = read_frame(plate.pattern.path(1004))
    frame.main.channels["R"][10:30, 10:30] = 3.0
    plate.pattern.path(1004).unlink()
    write_frame(plate.pattern.path(1004), frame)
    third = done(farm, *asked)["version"]
    assert sidecar(third)["content"]["reused"] == "1001-1002,1006-1008"
    linked = {f for f in plate.frames if files(third)[f].samefile(files(first)[f])}
    assert linked == {1001, 1002, 1006, 1007, 1008}
    made, before = mattes(third), mattes(first)
    assert {f for f in plate.frames if not np.array_equal(made[f], before[f])} == {1003, 1004, 1005}
    assert (red_of(third, 1004) == red(plate)[1004]).all()

    # A key on the last frame moves the curve from the first frame on: only where the value is the same a frame stays.
    curve = ("mean_key", plate, "again", "--seed", "7", "--threshold", "1001:0.3,1007:0.5571428571428572,1008:0.9")
    fourth = sidecar(done(farm, *curve)["version"])["content"]
    assert 1008 not in FrameRange.parse(fourth["reused"])
    assert 1001 in FrameRange.parse(fourth["reused"])


def red_of(version: dict[str, Any], frame: int) -> np.ndarray:
    return read_frame(files(version)[frame]).main.channels["R"].astype(np.float32)


def done_report(version: dict[str, Any]) -> Any:
    return sidecar(version)["report"]["frames"]


def test_the_seed_of_an_earlier_version_is_taken_again_and_a_frame_that_was_spoiled_is_not(
    farm: Farmhouse, plate: SmallPlate
) -> None:
    first = done(farm, "mean_key", plate, "seeds")["version"]
    other = done(farm, "mean_key", plate, "seeds")["version"]
    seeds = [sidecar(version)["seed"] for version in (first, other)]
    assert seeds[0] != seeds[1], "each draws its own"
    good = mattes(first)
    assert not np.array_equal(mattes(other)[1001], good[1001])

    path = files(first)[1005]
    spoiled = read_frame(path)
    spoiled.main.channels["matte.A"][:] = 1
    path.unlink()
    write_frame(path, spoiled)
    again = done(farm, "mean_key", plate, "seeds", "--seed-from", "v001")["version"]
    assert sidecar(again)["seed"] == seeds[0]
    assert sidecar(again)["content"]["reused"] == "1001-1004,1006-1008", "the same seed makes the same frames"
    assert np.array_equal(mattes(again)[1005], good[1005])

    refused = submit(farm, "mean_key", plate, "seeds", "--seed-from", "v099")
    assert refused.returncode == REFUSED
    assert "v099" in refused.stderr + refused.stdout


def test_bounds_refuse_a_publish_with_the_frames_unless_the_artist_accepts(farm: Farmhouse, plate: SmallPlate) -> None:
    bounds = farm.folder / "bounds.json"
    # The threshold falls: more of the picture is solid on each frame.
    asked = ("mean_key", plate, "held", "--show", "strict", "--seed", "1", "--threshold", "1001:0.9,1008:0.05")
    free = done(farm, *asked)
    solid = {row["frame"]: row["solid"] for row in free["report"]["frames"]}
    most = (solid[1005] + solid[1006]) / 2
    assert solid[1005] < most < solid[1006]
    try:
        bounds.write_text(json.dumps({"strict": {"mean_key": {"solid": {"most": most, "unless": "accept"}}}}))
        run = submit(farm, *asked)
        assert run.returncode not in (0, REFUSED)
        outcome = parsed(run)
        assert outcome["state"] != "succeeded"
        assert outcome["version"] is None
        assert "1006-1008: solid is above" in outcome["message"], outcome["message"]
        assert not list((farm.published / "strict" / "held").rglob("*v002*"))
        accepted = done(farm, *asked, "--accept")
        assert accepted["version"]["name"].endswith("v003")
        done(farm, "mean_key", plate, "held", "--show", "other", "--seed", "1", "--threshold", "0.05")

        bounds.write_text("{")
        broken = submit(farm, *asked)
        assert broken.returncode != 0
        assert "bounds.json" in broken.stderr + broken.stdout
    finally:
        bounds.write_text("{}")


def test_a_sound_drives_a_number_and_one_that_is_too_short_is_refused(farm: Farmhouse, plate: SmallPlate) -> None:
    levels = [0.1, 0.2, 0.4, 0.8, 0.4, 0.2, 0.1, 0.05]
    sound = farm.folder / "drums.wav"
    soundfile.write(sound, steps(levels, 1 / 24), 48_000, subtype="FLOAT")
    outcome = done(
        farm, "luma_key", plate, "loud", "--source", "red", "--softness", "0", "--threshold", f"audio:{sound}:0.1:0.9"
    )
    made, own = mattes(outcome["version"]), red(plate)
    for frame, level in zip(plate.frames, levels, strict=True):
        threshold = 0.1 + 0.8 * level / 0.8
        near = np.abs(own[frame] - threshold) < 1e-3
        assert np.array_equal(made[frame][~near], (own[frame] >= threshold)[~near]), f"frame {frame}"

    soundfile.write(sound, steps(levels[:-1], 1 / 24), 48_000, subtype="FLOAT")
    short = submit(farm, "luma_key", plate, "loud", "--threshold", f"audio:{sound}:0.1:0.9")
    assert short.returncode == REFUSED
    assert "lasts 0.29 s" in short.stderr + short.stdout
    assert "threshold" in short.stderr + short.stdout
    missing = submit(farm, "luma_key", plate, "loud", "--threshold", f"audio:{sound}x:0:1")
    assert missing.returncode == REFUSED
    assert "drums.wavx" in missing.stderr + missing.stdout


@pytest.mark.parametrize("curve", ["1001:nan", "1001:-1"])
def test_a_curve_that_is_none_is_refused_before_anything_runs(farm: Farmhouse, plate: SmallPlate, curve: str) -> None:
    before = len(farm.client().get("/v1/jobs", limit=500))
    run = submit(farm, "luma_key", plate, "curve", "--threshold", curve)
    assert run.returncode in (2, REFUSED), run.stdout + run.stderr
    assert "threshold" in run.stderr + run.stdout
    assert len(farm.client().get("/v1/jobs", limit=500)) == before
