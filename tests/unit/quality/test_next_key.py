"""The frame that is most worth painting next."""

from __future__ import annotations

from pipeline.quality.next_key import next_key


def test_the_next_key_is_unsure_and_away_from_keys() -> None:
    unsure = {f: 0.5 for f in range(1001, 1042)} | {1002: 0.9, 1021: 0.6}
    assert next_key(unsure, [1001, 1041]) == 1021
    assert next_key(unsure, [1001, 1021, 1041]) not in (1001, 1002, 1021, 1041)
    assert next_key({1001: 0.1, 1002: 0.2}, [1001, 1002]) is None
    assert next_key({1001: 0.1, 1002: 0.2, 1003: 0.2}, []) == 1002
