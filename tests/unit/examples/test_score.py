"""The scorer says 1 of the truth itself, less of anything else, and nothing of the keys."""

import json
from pathlib import Path

import numpy as np
import OpenEXR
import pytest
from demo_plate import make_demo
from score import main, score

from pipeline.errors import PlateError

SIZE = (40, 60)  # rows, columns


def write(path: Path, channels: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    OpenEXR.File({"type": OpenEXR.scanlineimage}, channels).write(str(path))


def box(left: int, edge: float = 1.0) -> np.ndarray:
    alpha = np.zeros(SIZE, np.float32)
    alpha[10:30, left : left + 20] = 1.0
    alpha[10, left : left + 20] = edge
    return alpha


def publish(folder: Path, mattes: dict[int, np.ndarray]) -> Path:
    for frame, matte in mattes.items():
        write(folder / f"demo_sh010_roto_v001.{frame}.exr", {"matte.A": matte.astype(np.float16)})
    return folder


def truth(folder: Path, alphas: dict[int, np.ndarray], keys: list[int]) -> Path:
    for frame, alpha in alphas.items():
        write(folder / "truth" / f"alpha.{frame}.exr", {"A": alpha})
    (folder / "demo.json").write_text(json.dumps({"keys": {str(k): "" for k in keys}}))
    return folder / "truth"


def test_the_demos_own_truth_scores_full_marks(tmp_path: Path) -> None:
    demo = make_demo(tmp_path / "demo", frames=5, width=64, height=36)
    for frame in demo.frames:
        alpha = OpenEXR.File(str(demo.truth.path(frame)), separate_channels=True).channels()["A"].pixels
        write(tmp_path / "v001" / f"roto.{frame}.exr", {"matte.A": alpha})
    scored = score(tmp_path / "v001", demo.truth.folder)
    assert (scored["J"], scored["F"], scored["mae"]) == (1.0, 1.0, 0.0)
    assert [row["frame"] for row in scored["frames"]] == [1002, 1004]
    assert scored["keys"] == [1001, 1003, 1005]


def test_a_shifted_matte_scores_what_its_overlap_says(tmp_path: Path) -> None:
    known = truth(tmp_path, {1: box(10), 2: box(10), 3: box(10)}, keys=[1])
    scored = score(publish(tmp_path / "v001", {1: box(0), 2: box(10), 3: box(15)}), known)
    two, three = scored["frames"]
    assert (two["J"], two["F"], two["mae"]) == (1.0, 1.0, 0.0)
    assert three["J"] == pytest.approx(15 / 25)
    assert three["mae"] == pytest.approx(2 * 5 * 20 / 2400)
    assert 0.4 < three["F"] < 0.9
    assert scored["worst"]["frame"] == 3
    assert scored["J"] == pytest.approx((1 + 15 / 25) / 2)


def test_softness_shows_in_the_error_alone(tmp_path: Path) -> None:
    known = truth(tmp_path, {1: box(10, edge=0.9)}, keys=[])
    (row,) = score(publish(tmp_path / "v001", {1: box(10, edge=0.6)}), known)["frames"]
    assert (row["J"], row["F"]) == (1.0, 1.0)
    assert row["mae"] == pytest.approx(0.3 * 20 / 2400, rel=1e-3)


def test_an_empty_matte_scores_nothing(tmp_path: Path) -> None:
    known = truth(tmp_path, {1: box(10)}, keys=[])
    (row,) = score(publish(tmp_path / "v001", {1: np.zeros(SIZE)}), known)["frames"]
    assert (row["J"], row["F"]) == (0.0, 0.0)


def test_a_missing_frame_is_named(tmp_path: Path) -> None:
    known = truth(tmp_path, {1: box(10), 2: box(10)}, keys=[])
    with pytest.raises(PlateError, match="no frames 2"):
        score(publish(tmp_path / "v001", {1: box(10)}), known)


def test_a_plate_without_a_matte_is_refused(tmp_path: Path) -> None:
    known = truth(tmp_path, {1: box(10)}, keys=[])
    write(tmp_path / "v001" / "plate.1.exr", {"R": box(10)})
    with pytest.raises(PlateError, match=r"no channel matte\.A"):
        score(tmp_path / "v001", known)


def test_another_size_is_refused(tmp_path: Path) -> None:
    known = truth(tmp_path, {1: box(10)}, keys=[])
    with pytest.raises(PlateError, match="20x10, the truth 60x40"):
        score(publish(tmp_path / "v001", {1: np.zeros((10, 20))}), known)


def test_a_demo_of_keys_alone_is_refused(tmp_path: Path) -> None:
    known = truth(tmp_path, {1: box(10)}, keys=[1])
    with pytest.raises(PlateError, match="nothing but keys"):
        score(publish(tmp_path / "v001", {1: box(10)}), known)


def test_the_command_line_prints_a_table_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = truth(tmp_path, {1: box(10), 2: box(10)}, keys=[1])
    version = publish(tmp_path / "v001", {1: box(10), 2: box(15)})
    assert main([str(version), str(known)]) == 0
    assert "0.600" in capsys.readouterr().out
    assert main([str(version), str(known), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["J"] == pytest.approx(0.6)
    assert main([str(version), str(tmp_path / "elsewhere")]) == 2
    assert "elsewhere" in capsys.readouterr().err
