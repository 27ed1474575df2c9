"""A studio with finished shots to learn from, on a real farm: what tests of its own models begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from integrations._shared.client import Client
from tests.plates import SmallPlate, write_small_plate

SHOTS = ("sh010", "sh020", "sh030", "sh040")
FRAMES = 8
QUICK = {"iterations": 12, "frames_a_shot": 4, "score_iterations": 0, "score_frames": FRAMES}
"""Parameters of a roto training that takes seconds: the net is judged as it is, without a fit."""


def write_shots(folder: Path, shots: tuple[str, ...] = SHOTS, **size: Any) -> dict[str, SmallPlate]:
    """A plate a shot, each with textures of its own, every frame painted: what is published of them is exact."""
    first = 1001
    keys = tuple(range(first, first + FRAMES))
    return {
        shot: write_small_plate(folder / shot, count=FRAMES, keys=keys, seed=seed, **size)
        for seed, shot in enumerate(shots)
    }


def asked(plate: SmallPlate, shot: str, *, keys: tuple[int, ...] = (), **more: Any) -> dict[str, Any]:
    """A request for a roto of a shot; with `keys` only those frames count as painted."""
    request = {**plate.request(), "show": "demo", "sequence": "sq1", "shot": shot, **more}
    if keys:
        request["keys"] = [key for key in request["keys"] if key["frame"] in keys]
    return request


def named(shot: str, number: int = 1, product: str = "roto") -> str:
    """A version's name."""
    return f"demo_sq1_{shot}_{product}_v{number:03d}"


def approve(client: Client, *shots: str) -> None:
    """Say of the shots' first versions that they are finished."""
    for shot in shots:
        version = client.get("/v1/versions", name=named(shot))[0]
        client.post(f"/v1/versions/{version['id']}/reviews", {"kind": "approve"})


def given(parameters: dict[str, Any]) -> list[str]:
    """Parameters as the command line takes them."""
    return [part for name, value in parameters.items() for part in ("--set", f"{name}={value}")]
