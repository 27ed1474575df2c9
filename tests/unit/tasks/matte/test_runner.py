"""The task as a whole, on composites whose alpha is known."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.errors import RunnerError
from pipeline.quality.matting import dtssd, score_matte
from pipeline.tasks.contract import Cancelled, FrameResult, ModelRef
from pipeline.tasks.matte.definition import MATTE
from pipeline.tasks.matte.runner import MatteRunner
from pipeline.tasks.registry import new_runner

from .tiny import GREEN, HEIGHT, WIDTH, Composite, composite, enlarged, greenscreen, texture


@pytest.fixture(scope="module")
def runner() -> MatteRunner:
    made = new_runner(MATTE)
    assert isinstance(made, MatteRunner)
    made.load(ModelRef())
    return made


@pytest.fixture(scope="module")
def clip() -> Composite:
    return composite(6)


def results(runner: MatteRunner, shot: object) -> dict[int, FrameResult]:
    return {r.frame: r for r in runner.run(shot)}  # type: ignore[arg-type]


def sad(matte: np.ndarray, truth: np.ndarray) -> float:
    return score_matte(matte, truth).sad


def test_hair_comes_back_from_a_hard_roto(runner: MatteRunner, tmp_path: Path) -> None:
    made = composite()
    (found,) = runner.run(made.shot(tmp_path, edge=2.0))
    feathered = min(sad(cv2.GaussianBlur(made.roto[1001], (0, 0), s), made.alpha[1001]) for s in (0.7, 1, 1.5, 2, 3))
    assert found.alpha is not None
    assert sad(found.alpha, made.alpha[1001]) < 0.5 * feathered
    strands = (made.alpha[1001] > 0.2) & (made.roto[1001] == 0)
    assert strands.sum() > 50
    assert found.alpha[strands].mean() > 0.6 * made.alpha[1001][strands].mean()


def test_motion_blur_stays_a_ramp(runner: MatteRunner, tmp_path: Path) -> None:
    made = composite(blur=10)
    (found,) = runner.run(made.shot(tmp_path, edge=4.0))
    assert found.alpha is not None
    assert sad(found.alpha, made.alpha[1001]) < 0.35 * sad(made.roto[1001], made.alpha[1001])
    row = slice(40, 56)
    assert abs(float((found.alpha[row] - made.alpha[1001][row]).mean())) < 0.01


def test_the_picture_is_premultiplied_and_its_edge_has_no_ground_in_it(runner: MatteRunner, tmp_path: Path) -> None:
    made = composite()
    (found,) = runner.run(made.shot(tmp_path, edge=2.0))
    assert found.rgb is not None and found.alpha is not None
    assert found.layers["matte"]["A"].tobytes() == found.alpha.tobytes()
    assert np.all(found.rgb[:, found.alpha == 0] == 0)
    soft = (found.alpha > 0.3) & (found.alpha < 0.9)
    straight = found.rgb[:, soft] / found.alpha[soft]
    ours = np.abs(straight - made.fore[1001][:, soft]).mean()
    plate = np.abs(made.rgb[1001][:, soft] - made.fore[1001][:, soft]).mean()
    assert ours < 0.3 * plate


def test_highlights_and_negatives_pass_bit_for_bit_where_it_is_opaque(runner: MatteRunner, tmp_path: Path) -> None:
    made = composite()
    plate = made.rgb[1001].copy()
    plate[:, 44:50, 40:48] = 37.5
    plate[1, 52:54, 40:44] = -0.25
    plate[0, 56, 44] = np.float32(np.inf)
    made.rgb[1001] = plate
    (found,) = runner.run(made.shot(tmp_path, edge=2.0))
    assert found.rgb is not None and found.alpha is not None and found.changed is not None
    opaque = found.alpha == 1
    assert opaque[44:57, 40:48].all()
    assert found.rgb[:, opaque].tobytes() == plate[:, opaque].tobytes()
    assert not found.changed[opaque].any() and found.changed[~opaque].all()
    assert np.isfinite(found.rgb[:, ~opaque]).all()


def test_a_stop_more_or_less_changes_nothing(runner: MatteRunner, tmp_path: Path) -> None:
    made = composite()
    (found,) = runner.run(made.shot(tmp_path, edge=2.0))
    made.rgb = {f: p * 8 for f, p in made.rgb.items()}
    (lit,) = runner.run(made.shot(tmp_path, edge=2.0))
    assert found.alpha is not None and lit.alpha is not None
    assert np.abs(found.alpha - lit.alpha).mean() < 1e-3


@pytest.mark.parametrize("method", ["closed_form", "guided"])
def test_any_chunking_gives_the_same_bits(runner: MatteRunner, clip: Composite, tmp_path: Path, method: str) -> None:
    whole = results(runner, clip.shot(tmp_path, method=method))
    fresh = MatteRunner()
    for frames in ([1001, 1002], [1003], [1004, 1005, 1006]):
        for frame, result in results(fresh, clip.shot(tmp_path, frames, method=method)).items():
            assert result.alpha is not None and result.rgb is not None
            assert whole[frame].alpha is not None and whole[frame].rgb is not None
            assert result.alpha.tobytes() == whole[frame].alpha.tobytes()  # type: ignore[union-attr]
            assert result.rgb.tobytes() == whole[frame].rgb.tobytes()  # type: ignore[union-attr]
            assert result.quality == whole[frame].quality


def trembling(step: float, *, alike: bool) -> Composite:
    """A roto that is off by a pixel or so, another way on every frame; `alike`: the ground has the subject's colours."""
    ground = texture(2, (0.4, 0.2, 0.12), (0.7, 0.38, 0.24)) if alike else None
    made = composite(4, step=step, ground=ground)
    rng = np.random.default_rng(3)
    for frame in made.roto:
        dx, dy = rng.normal(0, 1.2, 2)
        made.roto[frame] = cv2.warpAffine(made.roto[frame], np.float32([[1, 0, dx], [0, 1, dy]]), (WIDTH, HEIGHT))
    return made


def steadiness(
    runner: MatteRunner, made: Composite, folder: Path, steady: int, edge: float = 2.0
) -> tuple[float, float]:
    """dtSSD and mean SAD."""
    found = {f: r.layers["matte"]["A"] for f, r in results(runner, made.shot(folder, steady=steady, edge=edge)).items()}
    return dtssd(found, made.alpha), float(np.mean([sad(m, made.alpha[f]) for f, m in found.items()]))


def test_neighbours_hold_an_edge_steady_where_colours_leave_doubt(runner: MatteRunner, tmp_path: Path) -> None:
    made = enlarged(trembling(1.0, alike=True), 3)  # flow needs a subject larger than its patches
    alone, held = (steadiness(runner, made, tmp_path, steady, edge=5.0) for steady in (0, 1))
    assert held[0] < 0.8 * alone[0] and held[1] < 0.97 * alone[1]


def test_fast_hair_is_not_smeared(runner: MatteRunner, tmp_path: Path) -> None:
    made = trembling(5.0, alike=False)
    alone, held = (steadiness(runner, made, tmp_path, steady) for steady in (0, 1))
    assert held[0] < 1.03 * alone[0] and held[1] < 1.06 * alone[1]


def test_nothing_is_carried_across_a_cut(runner: MatteRunner, clip: Composite, tmp_path: Path) -> None:
    cut = results(runner, clip.shot(tmp_path, cuts=[1004]))
    before = results(runner, clip.shot(tmp_path, [1003], steady=0))
    two = Composite(
        *({f: p for f, p in part.items() if f < 1004} for part in (clip.rgb, clip.fore, clip.alpha, clip.roto))
    )
    ended = results(runner, two.shot(tmp_path))
    assert cut[1003].alpha is not None and ended[1003].alpha is not None and before[1003].alpha is not None
    assert cut[1003].alpha.tobytes() == ended[1003].alpha.tobytes()
    assert cut[1003].alpha.tobytes() != before[1003].alpha.tobytes()


def test_a_trimap_alone_is_enough_where_colours_differ(runner: MatteRunner, tmp_path: Path) -> None:
    made = composite()
    alpha = made.alpha[1001]
    side = np.ones((7, 7), np.uint8)
    trimap = np.full(alpha.shape, 0.5, np.float32)
    trimap[cv2.erode((alpha > 0.99).astype(np.uint8), side) > 0] = 1
    trimap[cv2.dilate((alpha > 0.01).astype(np.uint8), side) == 0] = 0
    shot = made.shot(tmp_path, source="trimap", with_roto=False, masks={"trimap": {1001: trimap}})
    (found,) = runner.run(shot)
    assert found.alpha is not None
    assert np.all(found.alpha[trimap == 1] == 1) and np.all(found.alpha[trimap == 0] == 0)
    assert sad(found.alpha, alpha) < 0.25 * sad((trimap > 0.4).astype(np.float32), alpha)


@pytest.mark.parametrize("blur", [0.0, 9.0])
def test_a_green_screen_gives_hair_and_motion_blur_without_a_roto(
    runner: MatteRunner, tmp_path: Path, blur: float
) -> None:
    made = greenscreen(blur=blur)
    (found,) = runner.run(made.shot(tmp_path, source="screen", screen=GREEN, with_roto=False))
    assert found.alpha is not None and found.rgb is not None
    assert sad(found.alpha, made.alpha[1001]) < 0.15 * sad(made.roto[1001], made.alpha[1001])
    corners = found.alpha[:8, :8], found.alpha[-8:, -8:]
    assert all(np.all(corner == 0) for corner in corners)
    assert np.all(found.alpha[42:54, 38:50] == 1)


def test_despill_takes_the_screens_light_off_by_its_strength(runner: MatteRunner, tmp_path: Path) -> None:
    made = greenscreen()
    lit = made.rgb[1001].copy()
    lit[:, 40:56, 36:52] = np.float32([0.3, 0.45, 0.2])[:, None, None]  # green light on the subject's middle
    made.rgb[1001] = lit
    greens = []
    for strength in (0.0, 0.5, 1.0):
        (found,) = runner.run(made.shot(tmp_path, source="screen", screen=GREEN, despill=strength))
        assert found.rgb is not None and found.alpha is not None
        assert np.all(found.alpha[42:54, 38:50] == 1)
        greens.append(float(found.rgb[1, 48, 44]))
        assert found.rgb[0, 48, 44] == lit[0, 48, 44]
    assert greens == pytest.approx([0.45, 0.375, 0.3], abs=1e-3)


def test_a_clean_plate_stands_for_the_screen(runner: MatteRunner, tmp_path: Path) -> None:
    made = greenscreen()
    rng = np.random.default_rng(5)  # a patched screen: no smooth light explains it
    patches = cv2.resize(
        rng.uniform(0.5, 1.4, (12, 16)).astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST
    )
    clean = np.ascontiguousarray((np.float32(GREEN) * patches[..., None]).transpose(2, 0, 1))
    a = made.alpha[1001]
    made.rgb[1001] = made.fore[1001] * a + clean * (1 - a)
    without, given = (
        next(iter(runner.run(made.shot(tmp_path, source="screen", screen=GREEN, with_roto=False, **more)))).alpha
        for more in ({}, {"others": {"clean_plate": {1001: clean}}})
    )
    assert without is not None and given is not None
    assert sad(given, a) < sad(without, a)


def test_the_hair_brush_opens_what_the_roto_closed(runner: MatteRunner, tmp_path: Path) -> None:
    made = composite()
    made.roto[1001] = cv2.erode(made.roto[1001], np.ones((15, 15), np.uint8))  # far too small
    strokes = (tuple((1001, 44 + 22 * np.cos(t), 48 + 22 * np.sin(t)) for t in np.linspace(0, 6.3, 24)),)
    closed, opened = (
        next(iter(runner.run(made.shot(tmp_path, edge=1.0, **more)))).alpha
        for more in ({}, {"detail_strokes": strokes, "detail_radius": 10.0})
    )
    assert closed is not None and opened is not None
    assert sad(opened, made.alpha[1001]) < 0.5 * sad(closed, made.alpha[1001])


def test_a_keyed_edge_holds_on_its_own_frame(runner: MatteRunner, clip: Composite, tmp_path: Path) -> None:
    keyed = results(runner, clip.shot(tmp_path, curves={"edge": {1003: 6.0}}, steady=0))
    plain = results(runner, clip.shot(tmp_path, steady=0))
    assert keyed[1003].quality["unknown"] > 1.3 * plain[1003].quality["unknown"]
    assert keyed[1002].quality == plain[1002].quality


def test_every_frame_has_its_measures(runner: MatteRunner, clip: Composite, tmp_path: Path) -> None:
    for frame, result in results(runner, clip.shot(tmp_path)).items():
        assert set(result.quality) == set(MATTE.measures)
        assert all(0 <= value <= 1 for value in result.quality.values())
        assert result.quality["coverage"] == pytest.approx(clip.alpha[frame].mean(), abs=0.005)
        assert result.quality["confidence"] > 0.5


def test_a_subject_of_the_grounds_colour_is_less_sure(runner: MatteRunner, clip: Composite, tmp_path: Path) -> None:
    alike = composite()
    alike.rgb[1001] = (
        alike.rgb[1001] * 0
        + np.float32(0.3)
        + np.random.default_rng(1).normal(0, 0.02, alike.rgb[1001].shape).astype(np.float32)
    )
    (unsure,) = runner.run(alike.shot(tmp_path))
    (sure,) = runner.run(clip.shot(tmp_path, [1001]))
    assert unsure.quality["confidence"] < 0.5 * sure.quality["confidence"]


def test_a_fit_shows_frames_across_the_shot_and_leaves_nothing(
    runner: MatteRunner, clip: Composite, tmp_path: Path
) -> None:
    shot = clip.shot(tmp_path)
    facts = runner.fit(shot)
    assert facts["previews"] == 6 and {f for f, _ in shot.previews} == set(clip.rgb)
    assert [f for f, _ in shot.previews][:3] == [1001, 1004, 1006]
    assert not list(tmp_path.iterdir())


def test_a_fit_stops_when_asked(runner: MatteRunner, clip: Composite, tmp_path: Path) -> None:
    def stop(fraction: float, note: str) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        runner.fit(clip.shot(tmp_path, on_progress=stop))


def test_an_empty_roto_gives_an_empty_frame(runner: MatteRunner, tmp_path: Path) -> None:
    made = composite()
    made.roto[1001] = np.zeros((HEIGHT, WIDTH), np.float32)
    (found,) = runner.run(made.shot(tmp_path))
    assert found.alpha is not None and found.rgb is not None
    assert not found.alpha.any() and not found.rgb.any()


def test_a_frame_without_a_roto_is_named(runner: MatteRunner, tmp_path: Path) -> None:
    made = composite(2)
    del made.roto[1002]
    with pytest.raises(RunnerError, match="1002"):
        list(runner.run(made.shot(tmp_path)))
