"""What a refused submission must look like, for every test of bad input: each helper asserts."""

from __future__ import annotations

from typing import Any

import pytest

from integrations._shared.client import DispatcherError
from tests.acceptance.farmhouse import Farmhouse


def refusal(house: Farmhouse, request: dict[str, Any]) -> list[dict[str, str]]:
    """The faults that a submission is refused with; that nothing was written is checked along."""
    with pytest.raises(DispatcherError) as refused:
        house.submit(request)
    assert refused.value.status == 422, refused.value.message
    assert house.client().get("/v1/jobs") == []
    assert not house.published.exists()
    assert refused.value.faults
    for fault in refused.value.faults:
        assert fault["where"], fault
        assert fault["message"], fault
    return refused.value.faults


def told(faults: list[dict[str, str]], where: str, *words: str) -> None:
    """One of the faults is about `where` and says all of `words`, hint included."""
    texts = [f"{f['where']}: {f['message']} | {f['hint']}" for f in faults]
    assert any(where in text.split(":")[0] + text and all(word in text for word in words) for text in texts), texts
