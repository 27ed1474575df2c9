"""What a worker's time costs: the farm's prices, or the worker's own, which it says by its tags.

`gpus=2` is how many GPUs it holds, `hour_price=3.20` what an hour of it costs with all that it holds. A worker without the
second costs the farm's `machine_hour`, and its `gpu_hour` for each GPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from farm.settings import FarmSettings, SettingsError

GPUS, HOUR_PRICE = "gpus", "hour_price"
MOST_GPUS = 1024
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Price:
    """What a worker holds, and what it costs."""

    gpus: int
    rate: float
    """Money a second."""


def tags_of(words: Iterable[str]) -> dict[str, str]:
    """Tags as a worker says them, `name` or `name=value`, by name."""
    parted = (word.partition("=") for word in words)
    return {name.strip(): value.strip() for name, _, value in parted}


def price_of(tags: Mapping[str, str], settings: FarmSettings) -> Price:
    """The price of a worker with these tags. Raises: SettingsError (a tag of ours whose value can't be meant)."""
    gpus = _gpus(tags[GPUS]) if GPUS in tags else 0
    hour = _hour_price(tags[HOUR_PRICE]) if HOUR_PRICE in tags else settings.machine_hour + gpus * settings.gpu_hour
    return Price(gpus, hour / HOUR_S)


def farm_price(tags: Mapping[str, str], settings: FarmSettings) -> Price:
    """As `price_of`; tags that can't be read count as not given: a price is no reason to lose work over."""
    try:
        return price_of(tags, settings)
    except SettingsError:
        return Price(0, settings.machine_hour / HOUR_S)


def _gpus(said: str) -> int:
    if not (said.isascii() and said.isdecimal() and len(said) <= 4 and int(said) <= MOST_GPUS):
        raise SettingsError(f"the tag {GPUS}={said} is no number of GPUs", f"write a whole number, such as {GPUS}=1")
    return int(said)


def _hour_price(said: str) -> float:
    try:
        price = float(said)
    except ValueError:
        price = math.nan
    if not (math.isfinite(price) and price >= 0):
        raise SettingsError(f"the tag {HOUR_PRICE}={said} is no price", f"write a number, such as {HOUR_PRICE}=3.20")
    return price
