"""What a worker costs: the farm's prices, its own, and what can't be meant."""

from __future__ import annotations

import pytest

from farm.prices import Price, farm_price, price_of, tags_of
from farm.settings import FarmSettings, SettingsError

SETTINGS = FarmSettings.read({}, machine_hour=3.6, gpu_hour=7.2)


def test_tags_are_words_or_words_with_a_value() -> None:
    assert tags_of(("fast", "gpus=2", "rack = b=4 ")) == {"fast": "", "gpus": "2", "rack": "b=4"}


@pytest.mark.parametrize(
    ("words", "price"),
    [
        ((), Price(0, 0.001)),
        (("gpus=0",), Price(0, 0.001)),
        (("gpus=2",), Price(2, 0.005)),
        (("hour_price=36",), Price(0, 0.01)),
        (("gpus=4", "hour_price=1.8e1"), Price(4, 0.005)),
        (("hour_price=0", "gpus=1"), Price(1, 0.0)),
    ],
)
def test_a_worker_costs_the_farms_prices_or_its_own(words: tuple[str, ...], price: Price) -> None:
    found = price_of(tags_of(words), SETTINGS)
    assert (found.gpus, found.rate) == (price.gpus, pytest.approx(price.rate))


@pytest.mark.parametrize(
    "word",
    ["gpus", "gpus=", "gpus=two", "gpus=-1", "gpus=1.5", "gpus=1025", "gpus=99999", "gpus=²", "hour_price=", "hour_price=-1",
     "hour_price=nan", "hour_price=inf", "hour_price=3,20"],
)  # fmt: skip
def test_a_price_that_cannot_be_meant_is_refused_and_costs_no_work(word: str) -> None:
    with pytest.raises(SettingsError, match="tag"):
        price_of(tags_of((word,)), SETTINGS)
    assert farm_price(tags_of((word,)), SETTINGS) == Price(0, 0.001)


@pytest.mark.parametrize(
    "given",
    [{"machine_hour": -0.1}, {"gpu_hour": float("nan")}, {"machine_hour": float("inf")}, {"currency": "gold coins"}, {"currency": "E\nR"}],
)  # fmt: skip
def test_a_dispatcher_does_not_start_on_prices_that_are_none(given: dict[str, float | str]) -> None:
    with pytest.raises(SettingsError):
        FarmSettings.read({}, **given).checked()
    assert FarmSettings.read({}, machine_hour=1.5, gpu_hour=0, currency="EUR").checked().currency == "EUR"
