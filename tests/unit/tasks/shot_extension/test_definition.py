from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import Fault
from pipeline.frames import FrameRange
from pipeline.layer import Layer
from pipeline.parameters import for_fit, validate_keyed
from pipeline.plate import FramePattern, Plate, Window
from pipeline.rate import FrameRate
from pipeline.tasks.contract import ModelRef
from pipeline.tasks.intake import Submission
from pipeline.tasks.registry import task
from pipeline.tasks.shot_extension.definition import SHOT_EXTENSION, ExtensionParameters, windows
from pipeline.tasks.shot_extension.intake import check

HD = Window.of_size(1920, 1080)


def test_the_task_is_registered() -> None:
    assert task("shot_extension") is SHOT_EXTENSION


def test_what_a_fit_goes_by_is_shown_to_it_and_takes_no_curve() -> None:
    given = {"overscan": 5.0, "motion_decay": 0.5, "guidance": 9.0, "strength": 0.9}
    assert for_fit(ExtensionParameters(**given)).model_dump(include=set(given)) == given
    for name in given:
        _, curves, faults = validate_keyed(ExtensionParameters, {name: {"keys": {1001: 0.5, 1002: 1.0}}})
        assert not curves and [f.where for f in faults] == [f"parameter {name}"]


def test_in_time_the_windows_stay() -> None:
    assert windows(ExtensionParameters(mode="time", left=8), HD, HD) == (HD, HD)


def test_overscan_widens_the_data_window_and_leaves_the_format() -> None:
    data, display = windows(ExtensionParameters(mode="space", overscan=5), HD, HD)
    assert data == Window(-96, -54, 1920 + 95, 1080 + 53)
    assert display == HD


def test_overscan_is_rounded_up_and_pixels_add_to_it() -> None:
    data, _ = windows(ExtensionParameters(mode="space", overscan=1, left=3, bottom=7), HD, HD)
    assert data == Window(-20 - 3, -11, 1919 + 20, 1079 + 11 + 7)


def test_an_exact_part_is_not_rounded_up_by_floats() -> None:
    data, _ = windows(
        ExtensionParameters(mode="space", overscan=12.5), Window.of_size(640, 480), Window.of_size(640, 480)
    )
    assert data == Window(-80, -60, 719, 539)


def test_overscan_grows_from_a_data_window_that_is_not_the_format() -> None:
    data, display = windows(ExtensionParameters(mode="both", right=10), Window(-4, 2, 99, 49), Window.of_size(90, 50))
    assert data == Window(-4, 2, 109, 49)
    assert display == Window.of_size(90, 50)


def test_a_reframe_is_a_new_format_round_the_old_centre() -> None:
    data, display = windows(
        ExtensionParameters(mode="space", format_width=2560, format_height=1080, shift_x=100), HD, HD
    )
    assert display == Window(-320 + 100, 0, -320 + 100 + 2559, 1079)
    assert data == Window(-220, 0, 2339, 1079)


def test_a_smaller_format_keeps_all_of_the_plate() -> None:
    data, display = windows(ExtensionParameters(mode="space", format_width=1080, format_height=1920), HD, HD)
    assert (display.width, display.height) == (1080, 1920)
    assert data == Window(0, -420, 1919, 1499)


def submission(
    parameters: ExtensionParameters,
    asked: Sequence[int],
    have: Sequence[int],
    *,
    channels: tuple[str, ...] = ("R", "G", "B"),
    cuts: Sequence[int] = (),
) -> Submission:
    frames = FrameRange.of(asked)
    plate = Plate(
        pattern=FramePattern(Path("/plates"), "sh010.", 4, ".exr"),
        frames=FrameRange.of(have),
        layers=(Layer("", channels),),
        data_window=HD,
        display_window=HD,
        colorspace="lin_rec709",
        rate=FrameRate.of(Fraction(24)),
    )
    return Submission(
        parameters=parameters,
        plate=plate,
        frames=frames,
        missing=frames - plate.frames,
        keys={},
        curves={},
        paths={},
        model=ModelRef(),
        linear=lambda frame: np.zeros((3, 1080, 1920), np.float32),
        cuts=cuts,
    )


def faults(parameters: ExtensionParameters, asked: Sequence[int], have: Sequence[int]) -> list[Fault]:
    return list(check(submission(parameters, asked, have)))


def test_nothing_missing_is_said() -> None:
    (fault,) = faults(ExtensionParameters(mode="time"), range(1001, 1009), range(1001, 1009))
    assert fault.where == "frames"
    assert fault.message == "nothing is missing: the plate has all that the cut asks for"


def test_missing_frames_pass() -> None:
    assert not faults(ExtensionParameters(mode="time"), range(999, 1011), range(1001, 1009))


def test_space_that_is_not_larger_is_said() -> None:
    (fault,) = faults(ExtensionParameters(mode="space"), [1001, 1002], [1001, 1002])
    assert fault.where == "parameter mode" and "nothing to extend" in fault.message
    (fault,) = faults(ExtensionParameters(mode="space", format_width=1000), [1001, 1002], [1001, 1002])
    assert "the new format lies inside the plate" in fault.message


def test_both_with_nothing_missing_in_time_passes() -> None:
    assert not faults(ExtensionParameters(mode="both", left=10), [1001, 1002], [1001, 1002])


def test_both_with_nothing_missing_at_all_is_said_for_both() -> None:
    assert {f.where for f in faults(ExtensionParameters(mode="both"), [1001, 1002], [1001, 1002])} == {
        "frames",
        "parameter mode",
    }


def test_missing_frames_need_a_mode_in_time() -> None:
    (fault,) = faults(ExtensionParameters(mode="space", left=10), range(1001, 1005), range(1001, 1004))
    assert "1004" in fault.message


@pytest.mark.parametrize(
    ("asked", "end"),
    [(range(1001, 1022), "after its last frame 1012"), (range(992, 1013), "before its first frame 1001")],
)
def test_too_far_beyond_an_end_is_refused_with_the_honest_reach(asked: Sequence[int], end: str) -> None:
    (fault,) = faults(ExtensionParameters(mode="time"), asked, range(1001, 1013))
    assert end in fault.message and "9 frames" in fault.message and "about 4" in fault.hint
    assert not faults(ExtensionParameters(mode="time", most_frames=9), asked, range(1001, 1013))


def test_a_plate_without_colour_is_refused() -> None:
    (fault,) = check(submission(ExtensionParameters(mode="time"), range(999, 1004), range(1001, 1004), channels=("Y",)))
    assert fault.where == "plate" and "only Y" in fault.message


def test_a_shot_between_cuts_of_which_the_plate_has_nothing_is_refused() -> None:
    have = [*range(1001, 1005), *range(1009, 1013)]
    (fault,) = check(submission(ExtensionParameters(mode="time"), range(1001, 1013), have, cuts=(1005, 1009)))
    assert fault.where == "frames" and "1005-1008" in fault.message
    assert not [*check(submission(ExtensionParameters(mode="time"), range(1001, 1013), have, cuts=(1005,)))]


def test_a_single_frame_has_no_motion() -> None:
    (fault,) = faults(ExtensionParameters(mode="time"), [1001, 1002], [1001])
    assert "single frame" in fault.message


@pytest.mark.parametrize(
    ("asked", "words"), [({"left": 8192, "right": 8192}, "at most 16384"), ({"top": 8000}, "made up")]
)
def test_a_picture_that_is_too_large_is_refused(asked: dict[str, int], words: str) -> None:
    (fault,) = faults(ExtensionParameters(mode="space", **asked), [1001, 1002], [1001, 1002])
    assert fault.where == "parameter mode" and words in fault.message and fault.hint
    assert not faults(ExtensionParameters(mode="space", overscan=100), [1001, 1002], [1001, 1002])
