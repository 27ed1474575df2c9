"""A farm whose workers sign: from the settings to what `plates provenance` says, and what comes of a key that doesn't fit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.farmhouse import Farmhouse
from tests.certificates import Chain, new_chain
from tests.plates import SmallPlate, write_small_plate


@pytest.fixture
def plate(tmp_path: Path) -> SmallPlate:
    return write_small_plate(tmp_path / "shot", count=4, width=48, height=32)


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return new_chain(tmp_path / "ca")


@pytest.fixture
def farm(tmp_path: Path, chain: Chain) -> Iterator[Farmhouse]:
    house = Farmhouse(tmp_path, PLATEWRIGHT_RETRY_BACKOFF_S="0.2", **chain.environment())
    yield house
    house.close()


def test_a_key_that_stops_fitting_fails_the_publish_alone_and_a_retry_signs(
    farm: Farmhouse, plate: SmallPlate, chain: Chain
) -> None:
    farm.serve()
    farm.worker()
    farm.wait(lambda: farm.client().get("/v1/status")["workers"].get("idle", 0) == 1, 90, "no worker")
    chain.key.chmod(0o644)
    job = farm.submit(plate.request(show="demo", shot="sh010"))["job"]
    assert farm.ended(job)["state"] == "failed"
    chunks = {chunk["step"]: chunk for chunk in farm.job(job)["chunks"]}
    assert {step: chunk["state"] for step, chunk in chunks.items()} == {
        "fit": "succeeded",
        "infer": "succeeded",
        "publish": "failed",
    }
    assert not list(farm.published.rglob("v001"))

    chain.key.chmod(0o600)
    assert farm.plates("retry", str(job)).returncode == 0
    ended = farm.ended(job)
    assert ended["state"] == "succeeded"
    folder = Path(ended["version"]["path"])
    assert len(list(folder.glob("*.c2pa"))) == len(plate.frames)

    verified = farm.plates("provenance", str(folder), "--trust", str(chain.root), "--json")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    told = json.loads(verified.stdout)
    assert told["holds"]
    assert told["signatures"][0]["trusted"]
    assert told["model"]["licence"] == "Apache-2.0"


def test_a_worker_that_cannot_sign_does_not_start(farm: Farmhouse, chain: Chain) -> None:
    chain.key.chmod(0o644)
    said = farm.plates("worker", "--once", timeout_s=60)
    assert said.returncode == 3
    assert f"chmod 600 {chain.key}" in said.stderr


def test_a_whole_job_that_could_not_be_signed_does_not_begin(
    farm: Farmhouse, plate: SmallPlate, chain: Chain, tmp_path: Path
) -> None:
    chain.key.chmod(0o644)
    keys = plate.key_arguments()
    said = farm.plates("run", "roto", "--plate", str(plate.pattern), *keys, "--out", str(tmp_path / "out"))
    assert said.returncode == 3
    assert "others can read or change" in said.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_the_doctor_says_whether_it_can_sign(farm: Farmhouse, chain: Chain, mode: int) -> None:
    chain.key.chmod(mode)
    findings = json.loads(farm.plates("doctor", "--json").stdout)
    (signing,) = (finding for finding in findings if finding["what"] == "signing")
    assert signing["ok"] == (mode == 0o600)
    assert ("versions are signed by Platewright farm with es256" in signing["message"]) == signing["ok"]
