"""Real processes for acceptance tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.farmhouse import Farmhouse


@pytest.fixture
def farmhouse(tmp_path: Path) -> Iterator[Farmhouse]:
    """A dispatcher that isn't started yet, with leases short enough for tests."""
    house = Farmhouse(tmp_path, PLATEWRIGHT_LEASE_S="4", PLATEWRIGHT_REAP_S="0.5", PLATEWRIGHT_RETRY_BACKOFF_S="0.2")
    yield house
    house.close()
