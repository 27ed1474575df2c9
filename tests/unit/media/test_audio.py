"""What a sound does on each frame, from sounds whose loudness and beats are known because the tests made them."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.curves import AudioCurve
from pipeline.errors import ParameterError, PipelineError, PlateError
from pipeline.media.audio import envelope

RATE = 48_000
FILM = Fraction(24)
NTSC = Fraction(24000, 1001)
Sound = NDArray[np.float32]


def steps(levels: list[float], each_s: float, samples_s: int = RATE) -> Sound:
    """A square wave whose root mean square is exactly each level in turn."""
    count = round(each_s * samples_s)
    sign = np.where(np.arange(count) % 2, 1.0, -1.0)
    return np.concatenate([level * sign for level in levels]).astype(np.float32)


def clicks(at: list[float], last_s: float, *, seed: int = 0, samples_s: int = RATE, noise: float = 1e-4) -> Sound:
    """Bursts that decay within 30 ms, over quiet noise."""
    rng = np.random.default_rng(seed)
    out = (noise * rng.standard_normal(round(last_s * samples_s))).astype(np.float32)
    for t in at:
        start = round(t * samples_s)
        n = min(round(0.06 * samples_s), len(out) - start)
        out[start : start + n] += 0.8 * rng.standard_normal(n) * np.exp(-np.arange(n) / (0.01 * samples_s))
    return np.clip(out, -1, 1).astype(np.float32)


def write(path: Path, sound: Sound, samples_s: int = RATE, **how: Any) -> Path:
    soundfile.write(path, sound, samples_s, **({"subtype": "FLOAT"} | how if path.suffix == ".wav" else how))
    return path


def curve(path: Path, **more: Any) -> AudioCurve:
    return AudioCurve(audio=str(path), **more)


def driven(path: Path, frames: range | list[int], rate: Fraction = FILM, **more: Any) -> dict[int, float]:
    return envelope(path, curve(path, **more), list(frames), rate)


def test_loudness_is_the_root_mean_square_of_each_frame_over_the_loudest(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", steps([0.1, 0.5, 0.0, 0.25], 1 / 24))
    assert driven(path, range(1001, 1005)) == pytest.approx({1001: 0.2, 1002: 1, 1003: 0, 1004: 0.5}, abs=1e-6)


def test_frames_hear_their_own_time_at_a_rate_that_divides_no_sample_rate(tmp_path: Path) -> None:
    """At 23.976 a frame lasts 2002 samples: after 1000 frames a sloppy 24 would be 2 000 samples off."""
    frame_samples = RATE * 1001 // 24000
    sound = np.zeros(1001 * frame_samples, np.float32)
    sound[1000 * frame_samples :] = 0.5
    path = write(tmp_path / "a.wav", sound)
    found = driven(path, range(1, 1002), NTSC)
    assert found[1001] == 1
    assert max(found[frame] for frame in range(1, 1001)) == 0


def test_the_first_frame_hears_the_offset(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", steps([1.0, 0.1, 0.4], 1 / 24))
    assert driven(path, [7, 8], offset_s=1 / 24) == pytest.approx({7: 0.25, 8: 1}, abs=0.01)


def test_time_goes_on_through_frames_that_are_not_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", steps([0.1, 0.9, 0.2, 0.4], 1 / 24))
    assert driven(path, [-2, 0, 1]) == pytest.approx({-2: 0.25, 0: 0.5, 1: 1}, abs=1e-6)


def test_only_the_frames_that_are_asked_for_set_the_scale(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", steps([0.1, 0.2, 1.0], 1 / 24))
    assert driven(path, [1, 2])[2] == 1


def test_stereo_is_heard_as_the_mean_so_opposite_channels_are_silent(tmp_path: Path) -> None:
    left = steps([0.2, 0.4], 1 / 24)
    both = write(tmp_path / "both.wav", np.stack([left, left], 1))
    assert driven(both, [1, 2]) == pytest.approx({1: 0.5, 2: 1}, abs=1e-6)
    opposed = write(tmp_path / "opposed.wav", np.stack([left, -left], 1))
    with pytest.raises(ParameterError, match="silent"):
        driven(opposed, [1, 2])


@pytest.mark.parametrize("ending", [".wav", ".aiff", ".flac", ".ogg", ".mp3"])
def test_every_format_that_is_promised_gives_the_same_envelope(tmp_path: Path, ending: str) -> None:
    t = np.arange(RATE) / RATE
    tone = (0.6 * np.sin(2 * np.pi * 440 * t) * (t > 0.5)).astype(np.float32)
    found = driven(write(tmp_path / f"a{ending}", tone), range(1, 24))
    assert [found[f] > 0.7 for f in (15, 20)] == [True, True]
    assert max(found[f] for f in range(2, 11)) < 0.05


def test_a_sound_of_exactly_the_frames_is_long_enough_and_one_frame_less_is_not(tmp_path: Path) -> None:
    samples = 48 * RATE // 24
    path = write(tmp_path / "a.wav", np.full(samples, 0.5, np.float32))
    assert len(driven(path, range(1001, 1049))) == 48
    with pytest.raises(ParameterError, match=r"2\.00 s, the frames 1001-1049 need 2\.04 s"):
        driven(path, range(1001, 1050))
    with pytest.raises(ParameterError, match="lasts"):
        driven(path, range(1001, 1049), offset_s=0.01)


@pytest.mark.parametrize("measure", ["amplitude", "beat"])
def test_a_silent_sound_and_an_empty_one_are_refused(tmp_path: Path, measure: Any) -> None:
    silent = write(tmp_path / "silent.wav", np.zeros(RATE, np.float32))
    with pytest.raises(ParameterError, match=r"silent|no beat"):
        driven(silent, range(1, 25), measure=measure)
    empty = write(tmp_path / "empty.wav", np.zeros(0, np.float32))
    with pytest.raises(ParameterError, match=r"lasts 0\.00 s"):
        driven(empty, [1], measure=measure)


def test_what_is_no_sound_and_what_is_not_there_are_told_apart(tmp_path: Path) -> None:
    text = tmp_path / "a.wav"
    text.write_text("not a sound at all" * 20)
    with pytest.raises(ParameterError, match="not a sound"):
        driven(text, [1])
    whole = write(tmp_path / "whole.flac", steps([0.5], 1.0)).read_bytes()
    (tmp_path / "header.flac").write_bytes(whole[:30])
    with pytest.raises(ParameterError):
        driven(tmp_path / "header.flac", range(1, 25))
    with pytest.raises(PlateError, match=r"gone\.wav"):
        driven(tmp_path / "gone.wav", [1])
    with pytest.raises(PipelineError):
        driven(tmp_path, [1])


def test_a_sound_cut_off_in_its_samples_is_too_short_rather_than_half_silent(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", steps([0.5], 2.0))
    path.write_bytes(path.read_bytes()[: RATE * 4])
    with pytest.raises(ParameterError, match="lasts"):
        driven(path, range(1, 49))


@pytest.mark.parametrize("samples_s", [8, 100])
def test_a_sound_with_fewer_samples_than_a_frame_can_hear_is_refused_rather_than_nan(
    tmp_path: Path, samples_s: int
) -> None:
    path = write(tmp_path / "slow.wav", np.full(7, 0.5, np.float32), samples_s)
    with pytest.raises(ParameterError, match=f"at {samples_s} Hz"):
        driven(path, range(1, 25))


def test_samples_that_are_nan_or_infinite_are_silence(tmp_path: Path) -> None:
    sound = steps([0.5, 0.5], 1 / 24)
    sound[:2000] = np.nan
    sound[100] = np.inf
    found = driven(write(tmp_path / "a.wav", sound), [1, 2])
    assert found == {1: 0.0, 2: 1.0}


def test_no_frames_ask_for_nothing(tmp_path: Path) -> None:
    assert driven(tmp_path / "gone.wav", []) == {}


# Beats


def test_a_beat_jumps_to_one_on_the_frame_that_hears_it_and_decays_until_the_next(tmp_path: Path) -> None:
    beats = [0.5, 1.0, 1.5]
    found = driven(write(tmp_path / "a.wav", clicks(beats, 2.0)), range(0, 48), measure="beat", decay_s=0.2)
    for t in beats:
        frame = round(t * 24)
        assert found[frame] > 0.85, f"the beat at {t} s"
        assert found[frame - 1] < 0.2
        later = [found[frame + i] for i in range(1, 10)]
        assert later == sorted(later, reverse=True)
        assert later[4] == pytest.approx(found[frame] * math.exp(-5 / 24 / 0.2), rel=0.01)
    assert all(value == 0 for frame, value in found.items() if frame < 11), "before the first beat there is none"


def test_a_beat_before_the_offset_still_rings(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", clicks([0.5], 2.0))
    found = driven(path, range(0, 12), measure="beat", decay_s=1.0, offset_s=0.75)
    assert found[0] == pytest.approx(math.exp(-0.25), abs=0.03)


def test_a_sound_that_starts_on_the_beat_has_it_on_the_first_frame(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", clicks([0.0, 0.5], 1.0))
    assert driven(path, range(1, 25), measure="beat")[1] == 1


def test_noise_that_was_always_there_is_no_beat(tmp_path: Path) -> None:
    """A recording of a quiet room must not flash on its first frame."""
    found = driven(write(tmp_path / "a.wav", clicks([0.5], 1.0, noise=3e-3)), range(1, 25), measure="beat")
    assert max(found[frame] for frame in range(1, 12)) == 0
    assert found[13] > 0.8


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 1000), st.sampled_from([100, 120, 140, 174]), st.sampled_from([8000, 22_050, 44_100, 48_000]))
def test_every_beat_of_a_steady_rhythm_is_found_and_nothing_between(
    tmp_path: Path, seed: int, bpm: int, samples_s: int
) -> None:
    beats = [0.3 + i * 60 / bpm for i in range(6)]
    sound = clicks(beats, beats[-1] + 0.5, seed=seed, samples_s=samples_s, noise=1e-3)
    path = write(tmp_path / "a.wav", sound, samples_s)
    rate = Fraction(100)
    frames = range(0, int((beats[-1] + 0.4) * 100))
    found = driven(path, frames, rate, measure="beat", decay_s=0.1)
    rises = [frame for frame in frames[1:] if found[frame] > found[frame - 1]]
    starts = [rise for i, rise in enumerate(rises) if not i or rise - rises[i - 1] > 3]
    assert len(starts) == len(beats)
    assert all(abs(start / 100 - beat) <= 0.02 for start, beat in zip(starts, beats, strict=True))


def test_the_same_file_gives_the_same_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", clicks([0.2, 0.7], 1.0))
    for measure in ("amplitude", "beat"):
        assert driven(path, range(1, 25), measure=measure) == driven(path, range(1, 25), measure=measure)
