"""What holds for every plate's peak and every value: a curve rises, is odd, and gives the value back."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.media.transform import ACEScct, HybridCurve, LogC4

curves = st.one_of(
    st.builds(
        HybridCurve,
        st.floats(1e-3, 65504, allow_nan=False),
        st.floats(0.01, 0.95, allow_nan=False),
    ),
    st.just(ACEScct()),
    st.just(LogC4()),
)
halves = arrays(np.float16, st.integers(1, 64), elements=st.floats(-65504, 65504, width=16))


@given(curves, halves)
def test_any_half_survives_the_way_there_and_back(curve, values) -> None:
    back = curve.inverse(curve.forward(values.astype(np.float32))).astype(np.float16)
    assert np.array_equal(back, values)


@given(curves, halves)
def test_a_brighter_value_is_never_shown_darker(curve, values) -> None:
    shown = curve.forward(np.unique(values).astype(np.float32))
    assert (np.diff(shown) > 0).all()


@given(st.floats(1e-3, 65504), halves)
def test_the_hybrid_curve_is_odd(peak, values) -> None:
    curve = HybridCurve(peak)
    x = values.astype(np.float32)
    assert np.array_equal(curve.forward(-x), -curve.forward(x))
