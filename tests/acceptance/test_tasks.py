"""Each of the four tasks through a real farm: submitted by the command line, done by a real worker, published, read back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.frames import FrameRange
from pipeline.media.exr import Frame, Part, probe, read_frame, write_frame
from pipeline.plate import FramePattern
from tests import tiny
from tests.acceptance.farmhouse import Farmhouse, parsed
from tests.plates import SmallPlate, disc, write_small_plate

COUNT = 8


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farmhouse]:
    """One dispatcher and one worker for all."""
    farmhouse = Farmhouse(tmp_path_factory.mktemp("house"))
    farmhouse.serve("--workers", "1")
    yield farmhouse
    farmhouse.close()


@pytest.fixture
def plate(tmp_path: Path) -> SmallPlate:
    return write_small_plate(tmp_path / "shot", count=COUNT)


def done(house: Farmhouse, task: str, *arguments: str) -> dict[str, Any]:
    """Submit, wait, and give what became of it."""
    run = house.plates("submit", task, *arguments, "--wait", "--json")
    assert run.returncode == 0, run.stderr + run.stdout
    outcome: dict[str, Any] = parsed(run)
    return outcome


def frames_of(outcome: dict[str, Any]) -> dict[int, Path]:
    pattern = FramePattern.parse(outcome["version"]["pattern"])
    assert pattern is not None
    return {frame: pattern.path(frame) for frame in FrameRange.parse(outcome["version"]["frames"])}


def same_bits(made: Part, source: Part, *names: str) -> bool:
    return all(made.channels[n].tobytes() == source.channels[n].tobytes() for n in names)


def matte_of(path: Path) -> np.ndarray:
    return read_frame(path).main.channels["matte.A"].astype(np.float32)


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.minimum(one > 0.5, other > 0.5).sum() / np.maximum(one > 0.5, other > 0.5).sum())


def test_a_published_roto_becomes_a_soft_matte_with_its_foreground(house: Farmhouse, plate: SmallPlate) -> None:
    roto = done(
        house, "roto", "--plate", str(plate.pattern), *plate.key_arguments(), "--iterations", "0", "--shot", "soft"
    )
    outcome = done(house, "matte", "--plate", roto["version"]["pattern"], "--shot", "soft")
    assert outcome["version"]["layers"] == ["rgba", "matte"]
    for frame, path in frames_of(outcome).items():
        main = read_frame(path).main
        alpha, source = main.channels["A"].astype(np.float32), read_frame(plate.pattern.path(frame)).main
        assert overlap(alpha, disc(frame, plate.width, plate.height)) > 0.9
        assert main.channels["A"].tobytes() == main.channels["matte.A"].tobytes()
        solid = cv2.erode((alpha == 1).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        assert solid.any()
        for name in "RGB":
            assert np.array_equal(main.channels[name][solid], source.channels[name][solid]), f"{name} of {frame}"
            assert not main.channels[name][alpha == 0].any(), "premultiplied: nothing shows where nothing is"
    assert {"confidence", "edge"} <= set(outcome["report"]["frames"][0])


def test_a_painted_frame_is_carried_over_the_shot_where_a_mask_lets_it(
    house: Farmhouse, plate: SmallPlate, tmp_path: Path
) -> None:
    painted = tmp_path / "painted.png"
    cv2.imwrite(str(painted), np.full((plate.height, plate.width, 3), (200, 60, 20), np.uint8))
    mask = tmp_path / "left.png"
    left = np.zeros((plate.height, plate.width), np.uint8)
    left[:, : plate.width // 2] = 255
    cv2.imwrite(str(mask), left)
    outcome = done(
        house, "style_transfer", "--plate", str(plate.pattern), "--key", f"1001={painted}", "--mask", str(mask),
        "--no-keep-highlights", "--seed", "2",
    )  # fmt: skip
    for frame, path in frames_of(outcome).items():
        made, source = read_frame(path).main, read_frame(plate.pattern.path(frame)).main
        middle = plate.width // 2
        for name in "RGB":
            assert made.channels[name][:, middle:].tobytes() == source.channels[name][:, middle:].tobytes()
        blue, red = (made.channels[n][:, 4 : middle - 4].astype(np.float32).mean() for n in "BR")
        assert blue > 3 * red, "the paint was blue"
    assert all("flicker" in entry for entry in outcome["report"]["frames"])


def test_frames_that_the_cut_asks_for_and_the_plate_lacks_are_made_and_all_others_kept(
    house: Farmhouse, plate: SmallPlate
) -> None:
    last = plate.frames.last
    for frame in (1004, last - 1, last):
        plate.pattern.path(frame).unlink()
    outcome = done(
        house, "shot_extension", "--plate", str(plate.pattern), "--cut", str(plate.cut), "--handles", "0", "--seed", "1",
        "--accept-joins",
    )  # fmt: skip
    found = frames_of(outcome)
    assert list(found) == list(range(1002, last))
    for frame, path in found.items():
        made = read_frame(path).main
        if frame in (1004, last - 1):
            coverage = made.channels["extension.coverage"].astype(np.float32)
            assert coverage.shape == (plate.height, plate.width)
            assert np.isfinite(made.channels["G"].astype(np.float32)).all()
        else:
            assert same_bits(made, read_frame(plate.pattern.path(frame)).main, "R", "G", "B")
    exact = disc(last - 1, plate.width, plate.height) > 0.5
    made = read_frame(found[last - 1]).main.channels["R"].astype(np.float32)
    assert np.median(made[exact]) > 2 * np.median(made[~exact]), "the disc went on"
    confidence = {entry["frame"]: entry["confidence"] for entry in outcome["report"]["frames"]}
    assert confidence[1003] == 1.0 > confidence[last - 1]


def test_a_wider_picture_keeps_the_plate_inside_bit_for_bit(house: Farmhouse, plate: SmallPlate) -> None:
    outcome = done(
        house, "shot_extension", "--plate", str(plate.pattern), "--mode", "space", "--left", "10", "--right", "6",
        "--seed", "1", "--accept-joins",
    )  # fmt: skip
    for frame, path in frames_of(outcome).items():
        info, made = probe(path).main, read_frame(path).main
        assert info.data_window.as_list() == [-10, 0, plate.width + 5, plate.height - 1]
        assert info.display_window.as_list() == [0, 0, plate.width - 1, plate.height - 1]
        source = read_frame(plate.pattern.path(frame)).main
        for name in "RGB":
            inner = np.ascontiguousarray(made.channels[name][:, 10 : 10 + plate.width])
            assert inner.tobytes() == source.channels[name].tobytes(), f"{name} of {frame}"
        assert made.channels["G"][:, :10].astype(np.float32).any()


def test_a_roto_comes_out_as_shapes_and_its_shapes_go_in_as_keys(house: Farmhouse, plate: SmallPlate) -> None:
    first = done(
        house, "roto", "--plate", str(plate.pattern), *plate.key_arguments(), "--iterations", "0", "--splines", "--seed", "1",
        "--shot", "shapes",
    )  # fmt: skip
    folder = Path(first["version"]["path"]) / "shapes"
    files = sorted(folder.iterdir())
    assert [path.name.split(".", 2)[2] for path in files] == ["blender.json", "json", "nk", "svg"]
    report = json.loads(Path(first["version"]["sidecar"]).read_text())["report"]["shapes"]["matte"]
    assert report["crossing_frames"] == []
    assert report["iou"]["worst"] >= 0.95
    for path in files:
        again = done(
            house, "roto", "--plate", str(plate.pattern), "--key", f"1001={path}", "--key", f"1008={path}", "--iterations", "0",
            "--seed", "1", "--shot", "back",
        )  # fmt: skip
        for frame in (1001, 1008):
            before, after = matte_of(frames_of(first)[frame]), matte_of(frames_of(again)[frame])
            assert overlap(before, after) > 0.95, f"{path.name} on {frame}"


def test_weights_by_path_do_a_roto_without_a_key(house: Farmhouse, plate: SmallPlate, tmp_path: Path) -> None:
    weights = tiny.saliency_onnx(tmp_path / "salient.onnx")
    outcome = done(
        house, "roto", "--plate", str(plate.pattern), "--model", str(weights), "--no-edge-refine", "--seed", "1"
    )
    record = json.loads(Path(outcome["version"]["sidecar"]).read_text())
    assert record["model"]["path"] == str(weights)
    assert record["model"]["family"] == "saliency-onnx"
    assert len(record["model"]["sha256"]) == 64
    assert outcome["version"]["layers"] == ["rgb", "matte"]


def test_a_plate_with_more_layers_and_an_alpha_keeps_them_through_every_task(
    house: Farmhouse, plate: SmallPlate, tmp_path: Path
) -> None:
    rich = FramePattern(tmp_path / "rich", "sh020.", 4, ".exr")
    rich.folder.mkdir()
    for frame in plate.frames:
        main = read_frame(plate.pattern.path(frame)).main
        depth = np.full((plate.height, plate.width), np.inf, np.float32)
        alpha = np.full((plate.height, plate.width), 0.5, np.float16)
        channels = {**main.channels, "depth.Z": depth, "A": alpha}
        part = Part(main.name, main.header, channels, main.data_window, main.display_window)
        write_frame(rich.path(frame), Frame((part,)))
    outcome = done(
        house, "shot_extension", "--plate", str(rich), "--mode", "space", "--top", "4", "--seed", "1", "--accept-joins"
    )
    made = read_frame(frames_of(outcome)[1003]).main
    assert made.channels["depth.Z"].dtype == np.float32
    assert np.isinf(made.channels["depth.Z"][4:]).all()
    assert not made.channels["depth.Z"][:4].any(), "no depth was rendered there"
    assert (made.channels["A"][4:] == np.float16(0.5)).all()
    assert (made.channels["A"][:4] == 1).all()
