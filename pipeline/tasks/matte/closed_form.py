"""Closed-form matting (Levin, Lischinski & Weiss 2008) on the unknown band alone, with a prior for every pixel of it.

In each 3 × 3 window colours lie on a line between foreground and background, so that α = a·I + b there; what doesn't fit is a quadratic
form, the matting Laplacian L. The matte is the minimum of

    λ αᵀ L α + Σ wᵢ (αᵢ − tᵢ)²

with α fixed outside the band. Colours are scene-linear: there a pixel that is half hair is half its colour, which isn't so in an
encoded picture. The regulariser of a window's covariance grows with the square of its brightness, so that a stop more or less, or a
highlight beside a shadow, changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
import scipy.sparse
from numpy.typing import NDArray

Float = NDArray[np.float32]
Index = NDArray[np.int32]
Bools = NDArray[np.bool_]

SMOOTHNESS = 2000.0
"""λ: what the Laplacian weighs against precisions 1/σ² of the prior."""
NOISE = 2e-6
"""ε of a window's covariance, of its squared brightness."""
FINE_NOISE = 2e-7
"""Where nothing but the picture says what α is: a trimap alone."""
_FLOOR = 1e-9
_TOLERANCE = 3e-5
_STEPS = 400
_START_STEPS = 60
_DIRECT = 30_000
"""From this many unknowns on the start comes from a solution at half the size."""
_WINDOWS = 65_536
"""Windows worked on at once: their 9 × 9 forms take 21 MB."""
_OFFSETS = tuple(product((-1, 0, 1), repeat=2))


@dataclass(frozen=True, slots=True)
class Problem:
    """`rgb` (height, width, 3) scene-linear. `known` (height, width): α outside the band. `unknown`: the band. `target`, `weight`: t, w
    on the band, (height, width); a weight of 0 leaves a pixel to its neighbours. `noise`: ε, of a window's squared brightness."""

    rgb: Float
    known: Float
    unknown: Bools
    target: Float
    weight: Float
    noise: float = NOISE


def solve(problem: Problem, smoothness: float = SMOOTHNESS) -> Float:
    """The matte, (height, width), 0 … 1; `known` outside the band, bit for bit."""
    count = int(np.count_nonzero(problem.unknown))
    if count == 0:
        return problem.known.copy()
    start = _coarse(problem, smoothness) if count > _DIRECT else problem.target
    return _solve(problem, smoothness, start, _STEPS)


def _coarse(problem: Problem, smoothness: float) -> Float:
    """A start from half the size: what the gradient method would carry across the band a pixel at a time is there at once."""
    height, width = problem.known.shape
    size = ((width + 1) // 2, (height + 1) // 2)

    def half(plane: Float) -> Float:
        return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.float32)

    unknown = np.asarray(half(problem.unknown.astype(np.float32)) > 0)
    known = (half(problem.known) > 0.5).astype(np.float32)
    # Four pixels vouch for one: their precisions add up, and the Laplacian's windows are four times fewer.
    small = Problem(half(problem.rgb), known, unknown, half(problem.target), half(problem.weight), problem.noise)
    count = int(np.count_nonzero(unknown))
    inner = _coarse(small, smoothness) if count > _DIRECT else small.target
    found = _solve(small, smoothness, inner, _START_STEPS if count > _DIRECT else _STEPS)
    return np.asarray(cv2.resize(found, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _solve(problem: Problem, smoothness: float, start: Float, steps: int) -> Float:
    """Conjugate gradients with the diagonal as preconditioner."""
    pixels = np.flatnonzero(problem.unknown)
    matrix, pull = _laplacian(problem, pixels)
    weight = problem.weight.ravel()[pixels]
    matrix.data *= np.float32(smoothness)
    diagonal = matrix.diagonal() + weight
    matrix.setdiag(diagonal)
    right = np.float32(smoothness) * pull + weight * problem.target.ravel()[pixels]
    found = _conjugate_gradients(matrix, right, diagonal, start.ravel()[pixels].astype(np.float32), steps)
    matte = problem.known.copy()
    matte.ravel()[pixels] = np.clip(found, 0, 1)
    return matte


def _conjugate_gradients(matrix: scipy.sparse.csr_array, right: Float, diagonal: Float, x: Float, steps: int) -> Float:
    scale = 1 / np.maximum(diagonal, np.float32(1e-12))
    residual = right - matrix @ x
    along = scale * residual
    ahead = along.copy()
    rate = float(np.dot(residual, along))
    enough = _TOLERANCE**2 * float(np.dot(right, scale * right))
    for _ in range(steps):
        if rate <= enough:
            break
        turned = matrix @ ahead
        step = np.float32(rate / float(np.dot(ahead, turned)))
        x = x + step * ahead
        residual -= step * turned
        along = scale * residual
        before, rate = rate, float(np.dot(residual, along))
        ahead *= np.float32(rate / before)
        ahead += along
    return x


def _laplacian(problem: Problem, pixels: NDArray[np.intp]) -> tuple[scipy.sparse.csr_array, Float]:
    """L among the band's pixels, and what the known ones beside it pull: −L·α of those."""
    height, width = problem.unknown.shape
    touched = cv2.dilate(problem.unknown.astype(np.uint8), np.ones((3, 3), np.uint8))
    touched[[0, -1]] = 0
    touched[:, [0, -1]] = 0
    centres = np.flatnonzero(touched)
    number = np.full(height * width, -1, np.int32)
    number[pixels] = np.arange(len(pixels), dtype=np.int32)
    # One row a pixel, one column for each neighbour at most 2 away: windows overlap no farther.
    values = np.zeros((len(pixels), 25), np.float32)
    for first in range(0, len(centres), _WINDOWS):
        part = centres[first : first + _WINDOWS]
        forms = _forms(problem.rgb.reshape(-1, 3), part, width, problem.noise)
        for i, (yi, xi) in enumerate(_OFFSETS):
            rows = number[part + yi * width + xi]
            inside = rows >= 0
            rows = rows[inside]
            for j, (yj, xj) in enumerate(_OFFSETS):
                # Windows of different centres never share their i-th pixel, so no two additions meet.
                values[rows, (yj - yi + 2) * 5 + xj - xi + 2] += forms[inside, i, j]
    return _as_matrix(problem, pixels, number, values)


def _as_matrix(
    problem: Problem, pixels: NDArray[np.intp], number: Index, values: Float
) -> tuple[scipy.sparse.csr_array, Float]:
    height, width = problem.unknown.shape
    known = problem.known.ravel()
    pull = np.zeros(len(pixels), np.float32)
    column = np.empty(values.shape, np.int32)
    # An offset at a time: all at once would take several times the matrix's own memory.
    for k, (dy, dx) in enumerate(product(range(-2, 3), repeat=2)):
        beside = np.clip(pixels + (dy * width + dx), 0, height * width - 1)
        column[:, k] = number[beside]
        outside = column[:, k] < 0
        pull[outside] -= values[outside, k] * known[beside[outside]]
    used = (column >= 0) & (values != 0)
    ends = np.concatenate(([0], np.cumsum(used.sum(1)))).astype(np.int32)
    matrix = scipy.sparse.csr_array((values[used], column[used], ends), shape=(len(pixels), len(pixels)))
    return matrix, pull


def _forms(colours: Float, centres: NDArray[np.intp], width: int, noise: float) -> Float:
    """(windows, 9, 9): each window's own quadratic form δᵢⱼ − (1 + (Iᵢ−μ)ᵀ (Σ + ε/9)⁻¹ (Iⱼ−μ)) / 9."""
    reach = np.array([dy * width + dx for dy, dx in _OFFSETS])
    window = colours[centres[:, None] + reach].astype(np.float64)
    mean = window.mean(1, keepdims=True)
    off = window - mean
    spread = np.einsum("wic,wid->wcd", off, off) / 9
    own = (noise * np.square(mean[:, 0]).mean(1) + _FLOOR) / 9
    spread += own[:, None, None] * np.eye(3)
    inverse = _inverse(spread)
    forms = np.matmul(np.matmul(off, inverse), off.transpose(0, 2, 1))
    forms += 1
    forms /= -9
    forms += np.eye(9)
    return np.asarray(forms, np.float32)


def _inverse(s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of symmetric 3 × 3 matrices, by cofactors: a hundred times as fast as a general solver on so many small ones."""
    a, b, c, d, e, f = s[:, 0, 0], s[:, 0, 1], s[:, 0, 2], s[:, 1, 1], s[:, 1, 2], s[:, 2, 2]
    out = np.empty_like(s)
    out[:, 0, 0], out[:, 1, 1], out[:, 2, 2] = d * f - e * e, a * f - c * c, a * d - b * b
    out[:, 0, 1] = out[:, 1, 0] = c * e - b * f
    out[:, 0, 2] = out[:, 2, 0] = b * e - c * d
    out[:, 1, 2] = out[:, 2, 1] = b * c - a * e
    out /= (a * out[:, 0, 0] + b * out[:, 0, 1] + c * out[:, 0, 2])[:, None, None]
    return out
