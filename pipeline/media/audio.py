"""What a sound does on each frame: its loudness, or its beats, as a number that can drive a parameter."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from pipeline.curves import AudioCurve
from pipeline.errors import ParameterError
from pipeline.media.files import read_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float = NDArray[np.float32]

_BLOCK = 1 << 16
_HOP_S = 0.01
"""Between two looks for an onset; each look is twice as long, at any sample rate."""
_MEDIAN_S = 0.5
"""Width of the running median that an onset must stand out from."""
_STANDS_OUT = 1.6
_LEAST_GAP_S = 0.1
"""Two onsets closer than this are one: faster than any beat."""
_LEAST_RATE, _MOST_RATE, _MOST_CHANNELS = 1000, 768_000, 64


def envelope(path: Path, curve: AudioCurve, frames: Sequence[int], rate: Fraction) -> dict[int, float]:
    """Frame → 0 … 1, for rising `frames` that play at `rate` frames a second from the curve's `offset_s` on.

    Time goes on through frames that aren't asked for. Stereo is heard as the mean of its channels.
    Raises: ParameterError (not a sound, silent, shorter than the frames), PlateError and StorageError (the file).
    """
    if not frames:
        return {}
    starts = {frame: Fraction(curve.offset_s) + Fraction(frame - frames[0]) / rate for frame in frames}
    end_s = starts[frames[-1]] + 1 / rate
    samples, samples_s = _heard(path, float(end_s))
    if len(samples) / samples_s < float(end_s) - 1 / samples_s:
        raise ParameterError(
            f"{path} lasts {len(samples) / samples_s:.2f} s, the frames {frames[0]}-{frames[-1]} need {float(end_s):.2f} s",
            "give a longer sound, or fewer frames",
        )
    if curve.measure == "beat":
        onsets = _onsets(samples, samples_s)
        if not onsets:
            raise ParameterError(f"{path} has no beat in these frames", "drive by its amplitude instead")
        return {frame: _since(onsets, float(start), curve.decay_s) for frame, start in starts.items()}
    spans = {
        frame: samples[math.floor(start * samples_s) : math.ceil((start + 1 / rate) * samples_s)]
        for frame, start in starts.items()
    }
    loudness = {frame: float(np.sqrt(np.mean(np.square(part, dtype=np.float64)))) for frame, part in spans.items()}
    loudest = max(loudness.values())
    if loudest == 0:
        raise ParameterError(f"{path} is silent in these frames", "choose another part of it with offset_s")
    return {frame: value / loudest for frame, value in loudness.items()}


def _heard(path: Path, most_s: float) -> tuple[Float, int]:
    """Mono samples of the first `most_s` seconds, and how many a second has."""
    try:
        with path.open("rb") as file, soundfile.SoundFile(file) as sound:
            if not _LEAST_RATE <= sound.samplerate <= _MOST_RATE or sound.channels > _MOST_CHANNELS:
                raise ParameterError(
                    f"{path} declares {sound.channels} channels at {sound.samplerate} Hz", "export it as plain WAV"
                )
            parts = list(_blocks(sound, math.ceil(most_s * sound.samplerate)))
            samples = np.concatenate(parts) if parts else np.zeros(0, np.float32)
            return np.nan_to_num(samples, posinf=0.0, neginf=0.0), int(sound.samplerate)
    except soundfile.LibsndfileError as error:
        raise ParameterError(
            f"{path} is not a sound that can be read: {error.error_string}", "give WAV, AIFF, FLAC, Ogg or MP3"
        ) from error
    except OSError as error:
        raise read_error(error, path) from error


def _blocks(sound: soundfile.SoundFile, most: int) -> Iterator[Float]:
    while most > 0 and len(block := sound.read(min(_BLOCK, most), dtype="float32", always_2d=True)):
        most -= len(block)
        yield block.mean(axis=1)


def _onsets(samples: Float, samples_s: int) -> list[float]:
    """Seconds at which something sets in: peaks of the half-wave rectified spectral flux (Bello et al. 2005) that stand out
    from its running median."""
    hop = round(_HOP_S * samples_s)
    window = 2 * hop
    count = (len(samples) - window) // hop + 1
    if count < 3:
        return []
    places = np.arange(count)[:, None] * hop + np.arange(window)
    spectra = np.log1p(100 * np.abs(np.fft.rfft(samples[places] * np.hanning(window).astype(np.float32), axis=1)))
    # Nothing comes before the first look: it is an onset where it is louder than the sound mostly is.
    first = np.maximum(spectra[0] - np.median(spectra, axis=0), 0).sum()
    flux = np.concatenate([[first], np.maximum(np.diff(spectra, axis=0), 0).sum(axis=1)])
    reach = max(1, round(_MEDIAN_S / _HOP_S / 2))
    padded = np.pad(flux, reach, mode="reflect" if count > reach else "edge")
    median = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1), axis=1)[:count]
    floor = 0.1 * float(flux.max())
    found: list[float] = []
    for i in range(count):
        peak = flux[i] >= flux[max(0, i - 2) : i + 3].max()
        at = (i + 1) * hop / samples_s if i else 0.0
        if peak and flux[i] > max(floor, _STANDS_OUT * median[i]) and (not found or at - found[-1] >= _LEAST_GAP_S):
            found.append(at)
    return found


def _since(onsets: Sequence[float], at_s: float, decay_s: float) -> float:
    """exp(−t / decay) of the time since the last onset; a hop of slack, for an onset is found by its look's middle."""
    before = [onset for onset in onsets if onset <= at_s + _HOP_S]
    return math.exp(-max(0.0, at_s - before[-1]) / decay_s) if before else 0.0
