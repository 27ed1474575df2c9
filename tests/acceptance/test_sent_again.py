"""A request that is sent again, because its answer was lost, finds its job: whatever became of what it was made of."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from integrations._shared.client import DispatcherError
from tests.acceptance.farmhouse import Farmhouse
from tests.plates import write_small_plate


def test_the_same_key_finds_its_job_though_plate_and_budget_are_gone(tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "local.toml").write_text("[budget]\nmachine_hours = 100\n")
    plate = write_small_plate(tmp_path / "plate", count=4, width=48, height=32)
    request = plate.request(parameters={"iterations": 0})
    (tmp_path / "house").mkdir()
    house = Farmhouse(tmp_path / "house")
    try:
        house.environment["PLATEWRIGHT_RULES"] = str(rules)
        house.serve()
        first = house.submit(request, key="one")
        assert first["created"] is True

        (rules / "local.toml").write_text("[budget]\nmachine_hours = 0\n")
        shutil.rmtree(plate.pattern.folder)
        again = house.submit(request, key="one")
        assert again == {**first, "created": False}

        with pytest.raises(DispatcherError) as gone:
            house.submit(request, key="two")
        assert gone.value.status == 422
        with pytest.raises(DispatcherError) as other:
            house.submit({**request, "priority": 7}, key="one")
        assert other.value.status == 409
        assert len(house.client().get("/v1/jobs")) == 1
    finally:
        house.close()
