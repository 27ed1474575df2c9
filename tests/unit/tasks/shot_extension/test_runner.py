from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import ModelError, RunnerError
from pipeline.memory_shot import MemoryShot
from pipeline.tasks.contract import Cancelled, FrameResult, ModelRef
from pipeline.tasks.registry import new_runner
from pipeline.tasks.roto.definition import RotoParameters
from pipeline.tasks.shot_extension.definition import SEAM_MOST, SHOT_EXTENSION, ExtensionParameters
from pipeline.tasks.shot_extension.runner import ExtensionRunner

from .tiny import BEYOND, FIRST, GRAIN, HEIGHT, WIDTH, plate, psnr, run, shot, shown, truth

HAVE = tuple(range(FIRST, FIRST + 14))
ROOM = 20
"""Pixels added on either side."""


@pytest.fixture(scope="module")
def runner() -> ExtensionRunner:
    made = new_runner(SHOT_EXTENSION)
    assert isinstance(made, ExtensionRunner)
    made.load(ModelRef())
    return made


@dataclass(frozen=True)
class Done:
    """A shot that was fitted, and what came of it."""

    have: dict[int, NDArray[np.float16]]
    parameters: ExtensionParameters
    folder: Path
    results: dict[int, FrameResult]

    def rgb(self, frame: int) -> NDArray[np.float32]:
        made = self.results[frame].rgb
        assert made is not None
        return made


def done(
    runner: ExtensionRunner,
    folder: Path,
    parameters: ExtensionParameters,
    have: dict[int, NDArray[np.float16]],
    wanted: Sequence[int],
    chunks: Sequence[Sequence[int]] | None = None,
    **more: object,
) -> Done:
    runner.fit(shot(have, parameters, folder, wanted, whole=True, **more))  # type: ignore[arg-type]
    return Done(have, parameters, folder, run(runner, have, parameters, folder, chunks or [wanted], **more))


@pytest.fixture(scope="module")
def wide(runner: ExtensionRunner, tmp_path_factory: pytest.TempPathFactory) -> Done:
    parameters = ExtensionParameters(mode="space", left=ROOM, right=ROOM, top=8)
    return done(runner, tmp_path_factory.mktemp("wide"), parameters, plate(HAVE), HAVE)


@pytest.fixture(scope="module")
def longer(runner: ExtensionRunner, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Two frames before, three after, and one missing in the middle."""
    have = plate([f for f in HAVE if f != FIRST + 6])
    wanted = range(FIRST - 2, HAVE[-1] + 4)
    return done(runner, tmp_path_factory.mktemp("long"), ExtensionParameters(mode="time"), have, wanted)


def inner(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    return plane[..., 8 : 8 + HEIGHT, ROOM : ROOM + WIDTH]


def true_window(frame: int) -> NDArray[np.float32]:
    return truth(frame, grain=0.0)[:, BEYOND - 8 : BEYOND + HEIGHT, BEYOND - ROOM : BEYOND + WIDTH + ROOM]


def test_the_plates_pixels_come_back_bit_for_bit(wide: Done) -> None:
    for frame, result in wide.results.items():
        assert result.changed is not None
        assert not inner(result.changed).any()
        assert result.changed.sum() == result.changed.size - WIDTH * HEIGHT
        assert inner(wide.rgb(frame)).astype(np.float16).tobytes() == np.ascontiguousarray(wide.have[frame]).tobytes()


def test_what_other_frames_show_beyond_the_edge_is_found(wide: Done) -> None:
    """The pan shows the right strip later and the left strip earlier: far better than carrying the edge outwards."""
    for frame in (FIRST + 3, FIRST + 10):
        result = wide.results[frame]
        shows = (result.layers["extension"]["coverage"] > 0.5) & result.changed
        assert shows[8:].sum() > 0.4 * result.changed[8:].sum()
        carried = np.pad(shown(wide.have[frame]), ((0, 0), (8, 0), (ROOM, ROOM)), mode="edge")
        there = shown(true_window(frame))
        assert psnr(shown(wide.rgb(frame)), there, shows) > 27
        assert psnr(shown(wide.rgb(frame)), there, shows) > psnr(carried, there, shows) + 6


def test_coverage_says_where_no_frame_shows_the_pixel(wide: Done) -> None:
    first = wide.results[FIRST].layers["extension"]["coverage"]
    assert first[8:, ROOM + WIDTH + 4 :].mean() > 0.9, "the pan shows all of the right strip later"
    assert first[8:, : ROOM - 4].max() == 0, "the left strip of the first frame was never seen"
    assert wide.results[FIRST].quality["coverage"] < wide.results[FIRST + 7].quality["coverage"]
    confidence = wide.results[FIRST].layers["extension"]["confidence"]
    assert confidence[8:, : ROOM - 4].max() < 0.2 < confidence[8:, ROOM + WIDTH + 4 :].mean()


def test_the_joins_of_a_good_extension_pass(wide: Done, longer: Done) -> None:
    """Where other frames show what is missing; what is made up need not join."""
    shown_elsewhere = [r for r in wide.results.values() if r.quality["coverage"] > 0.5]
    assert len(shown_elsewhere) > 4
    for result in [*shown_elsewhere, *longer.results.values()]:
        assert result.quality["seam"] < SEAM_MOST, (result.frame, result.quality)


def test_every_measure_is_declared(wide: Done, longer: Done) -> None:
    for result in [wide.results[FIRST], longer.results[FIRST - 1]]:
        assert set(result.quality) == set(SHOT_EXTENSION.measures)


def test_what_was_made_up_does_not_flicker(wide: Done) -> None:
    """The left strip of the first frames was never seen: it moves with the camera instead of being invented anew."""
    jumps = []
    for frame in (FIRST, FIRST + 1, FIRST + 2):
        here, there = (np.mean(shown(wide.rgb(f)), 0) for f in (frame, frame + 1))
        # The camera moves 3 pixels right: what is at x now was at x + 3.
        jumps.append(np.abs(there[8:, 2 : ROOM - 8] - here[8:, 5 : ROOM - 5]).mean())
    assert max(jumps) < 0.03 + GRAIN


def test_missing_frames_are_made_and_the_others_left(longer: Done) -> None:
    assert sorted(longer.results) == list(range(FIRST - 2, HAVE[-1] + 4))
    for frame, result in longer.results.items():
        assert result.quality["made"] == (0.0 if frame in longer.have else 1.0)
        if frame in longer.have:
            assert result.changed is not None and not result.changed.any()


@pytest.mark.parametrize(("frame", "least"), [(HAVE[-1] + 1, 27), (HAVE[-1] + 2, 25), (FIRST - 1, 27), (FIRST + 6, 28)])
def test_motion_goes_on_and_fills_gaps(longer: Done, frame: int, least: float) -> None:
    there = shown(truth(frame, grain=0.0)[:, BEYOND : BEYOND + HEIGHT, BEYOND : BEYOND + WIDTH])
    nearest = min(longer.have, key=lambda f: abs(f - frame))
    made = psnr(shown(longer.rgb(frame)), there)
    assert made > least
    assert made > psnr(shown(longer.have[nearest]), there) + 4


def test_confidence_falls_with_distance(longer: Done) -> None:
    after = [longer.results[HAVE[-1] + k].quality["confidence"] for k in (1, 2, 3)]
    assert after == sorted(after, reverse=True)
    assert longer.results[FIRST + 3].quality["confidence"] == 1.0


@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_frame_is_the_same_in_any_chunk(runner: ExtensionRunner, wide: Done, longer: Done, size: int) -> None:
    for case in (wide, longer):
        frames = [f for f in sorted(case.results) if f < FIRST + 7]
        chunks = [frames[i : i + size] for i in range(0, len(frames), size)]
        for frame, result in run(runner, case.have, case.parameters, case.folder, chunks).items():
            assert result.rgb is not None
            assert result.rgb.tobytes() == case.rgb(frame).tobytes()
            assert result.quality == case.results[frame].quality


def test_the_same_seed_gives_the_same_bits_and_another_other_grain(
    runner: ExtensionRunner, longer: Done, tmp_path: Path
) -> None:
    frame = HAVE[-1] + 1
    again = done(runner, tmp_path, longer.parameters, longer.have, sorted(longer.results), [[frame]], seed=0)
    assert again.rgb(frame).tobytes() == longer.rgb(frame).tobytes()
    other = run(runner, longer.have, longer.parameters, tmp_path, [[frame]], seed=1)[frame].rgb
    assert other is not None and 0 < np.abs(shown(other) - shown(longer.rgb(frame))).mean() < 2 * GRAIN


def flat_noise(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Deviation by channel of a (3, height, width) band in model space, without its slow changes."""
    rest = picture - picture.mean((1, 2), keepdims=True)
    return np.sqrt(np.square(np.diff(rest, axis=2)).mean((1, 2)) / 2)


def test_made_pixels_have_the_plates_grain(wide: Done, longer: Done) -> None:
    """In the even band at the bottom there is nothing but grain."""
    rows = slice(-24, -4)
    for frame in (FIRST + 2, FIRST + 9):
        picture = shown(wide.rgb(frame))
        ratio = flat_noise(picture[:, rows, ROOM + WIDTH + 2 :]) / flat_noise(picture[:, rows, ROOM:-ROOM])
        assert (ratio > 0.8).all() and (ratio < 1.25).all(), ratio
        ratio = flat_noise(picture[:, rows, : ROOM - 2]) / flat_noise(picture[:, rows, ROOM:-ROOM])
        assert (ratio > 0.8).all() and (ratio < 1.25).all(), ratio
    for frame in (HAVE[-1] + 1, HAVE[-1] + 3, FIRST + 6):
        ratio = flat_noise(shown(longer.rgb(frame))[:, rows]) / flat_noise(shown(longer.have[FIRST])[:, rows])
        assert (ratio > 0.8).all() and (ratio < 1.25).all(), (frame, ratio)


def test_grain_moves_on_instead_of_standing_on_the_picture(longer: Done) -> None:
    """Two frames of one source: what differs between them beyond motion is their grain, which must not be the same."""
    rows = slice(-24, -4)
    a, b = (shown(longer.rgb(HAVE[-1] + k))[:, rows] for k in (1, 2))
    a, b = a - a.mean(), b - b.mean()
    alike = [float((a[:, :, 6:-6] * np.roll(b, s, 2)[:, :, 6:-6]).mean() / (a.std() * b.std())) for s in range(-5, 6)]
    assert max(alike) < 0.5


def test_grain_may_be_keyed_and_turned_off(runner: ExtensionRunner, longer: Done) -> None:
    frames = [HAVE[-1] + 1, HAVE[-1] + 2]
    curves = {"grain": {frames[0]: 0.0, frames[1]: 1.0}}
    made = run(runner, longer.have, longer.parameters, longer.folder, [frames], curves=curves)
    rows = slice(-24, -4)
    off, on = (made[f].rgb for f in frames)
    assert off is not None and on is not None
    assert flat_noise(shown(off)[:, rows]).max() < 0.5 * flat_noise(shown(on)[:, rows]).min()
    assert on.tobytes() == longer.rgb(frames[1]).tobytes()


def test_nothing_is_carried_across_a_cut(runner: ExtensionRunner, tmp_path: Path) -> None:
    """Another shot begins at the gap's second frame: the first goes on from before, the second from after."""
    have = plate([f for f in HAVE if f < FIRST + 8])
    cut = FIRST + 9
    other = {
        f: np.ascontiguousarray(1.0 - truth(f)[:, 40:136, 40:200]).astype(np.float16) for f in range(cut + 1, cut + 5)
    }
    result = done(runner, tmp_path, ExtensionParameters(), have | other, [cut - 1, cut], cuts=[cut])
    for frame, own in ((cut - 1, have[FIRST + 7]), (cut, other[cut + 1])):
        foreign = other[cut + 1] if frame < cut else have[FIRST + 7]
        picture = shown(result.rgb(frame))
        assert psnr(picture, shown(own)) > psnr(picture, shown(foreign)) + 6
    alone = done(runner, tmp_path, ExtensionParameters(), have, [cut - 1])
    assert np.abs(shown(alone.rgb(cut - 1)) - shown(result.rgb(cut - 1))).mean() < 2.5 * GRAIN


def test_highlights_and_negatives_survive(runner: ExtensionRunner, tmp_path: Path) -> None:
    have = plate(HAVE)
    for number, picture in enumerate(have.values()):
        x = 150 - 3 * number  # still in the world, under a camera that pans
        picture[:, 40:48, x : x + 8] = 14.0
        picture[:, 60:68, x : x + 8] = -0.02
    parameters = ExtensionParameters(mode="both", right=ROOM)
    result = done(runner, tmp_path, parameters, have, [*HAVE, HAVE[-1] + 1], [[HAVE[-1] + 1]])
    made = result.rgb(HAVE[-1] + 1)
    assert made.shape == (3, HEIGHT, WIDTH + ROOM)
    assert made.max() > 9.0 and made.min() < -0.005
    assert np.isfinite(made).all()


def test_both_at_once_fills_the_wider_window_of_a_missing_frame(runner: ExtensionRunner, tmp_path: Path) -> None:
    parameters = ExtensionParameters(mode="both", left=ROOM, right=ROOM)
    frame = HAVE[-1] + 1
    result = done(runner, tmp_path, parameters, plate(HAVE), [*HAVE, frame], [[frame]])
    there = shown(truth(frame, grain=0.0)[:, BEYOND : BEYOND + HEIGHT, BEYOND - ROOM : BEYOND + WIDTH + ROOM])
    coverage = result.results[frame].layers["extension"]["coverage"] > 0.5
    assert coverage[:, :ROOM].mean() > 0.9
    assert psnr(shown(result.rgb(frame)), there, coverage) > 25


def test_the_first_preview_comes_before_any_work_and_better_ones_follow(
    runner: ExtensionRunner, tmp_path: Path
) -> None:
    parameters = ExtensionParameters(mode="space", left=ROOM)
    asked: list[int] = []
    context = shot(plate(HAVE), parameters, tmp_path, HAVE, whole=True)
    context.on_progress = lambda fraction, note: asked.append(len(context.previews))
    runner.fit(context)
    assert asked[0] >= 1
    assert len(context.previews) > 1
    for _, layers in context.previews:
        assert layers["picture"].ndim == 3 and layers["picture"].shape[0] == 3


def test_a_cancelled_fit_stops(runner: ExtensionRunner, tmp_path: Path) -> None:
    context = shot(plate(HAVE), ExtensionParameters(mode="space", left=ROOM), tmp_path, HAVE, whole=True)

    def stop(fraction: float, note: str) -> None:
        raise Cancelled

    context.on_progress = stop
    with pytest.raises(Cancelled):
        runner.fit(context)


def test_a_scene_without_a_frame_is_refused(runner: ExtensionRunner, tmp_path: Path) -> None:
    last = HAVE[-1]
    with pytest.raises(RunnerError, match="no plate frame to go on"):
        runner.fit(
            shot(plate(HAVE), ExtensionParameters(), tmp_path, [last + 1, last + 2], whole=True, cuts=[last + 2])
        )


def test_a_run_without_a_fit_says_so(runner: ExtensionRunner, tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="no finished extension fit"):
        list(runner.run(shot(plate(HAVE), ExtensionParameters(), tmp_path, [HAVE[-1] + 1])))


def test_a_context_that_is_too_short_is_told_instead_of_used(runner: ExtensionRunner, longer: Done) -> None:
    context = shot(longer.have, longer.parameters, longer.folder, [HAVE[-1] + 1])
    short: MemoryShot = replace(context, context=[HAVE[-1]], available=[HAVE[-1]])
    with pytest.raises(RunnerError, match="needed beside the chunk"):
        list(runner.run(short))


def test_foreign_parameters_and_unknown_weights_are_refused(runner: ExtensionRunner, tmp_path: Path) -> None:
    context = shot(plate(HAVE), ExtensionParameters(), tmp_path, [HAVE[-1] + 1])
    context.parameters = RotoParameters()
    with pytest.raises(RunnerError, match="RotoParameters"):
        runner.fit(context)
    with pytest.raises(ModelError, match="a shot extension can't use onnx"):
        ExtensionRunner().load(ModelRef(path=tmp_path, family="onnx"))
