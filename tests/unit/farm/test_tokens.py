"""Tokens: the local file, the table, the rights."""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from farm.dispatcher import Dispatcher
from farm.tables import TOKEN
from farm.tokens import Identity, Scope, hash_token, local_token, new_token, same_token
from pipeline.errors import AuthError, NotFoundError, StorageError
from tests.queue_kit import STUDIO, QueueFarm, open_farm


@pytest.fixture
def farm() -> Iterator[QueueFarm]:
    with open_farm() as opened:
        yield opened


def test_the_local_token_is_made_once_and_for_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "data" / "token"
    token = local_token(path)
    assert len(token) > 40
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert local_token(path) == token
    assert [entry.name for entry in path.parent.iterdir()] == ["token"]


def test_many_that_start_at_once_agree_on_one_token(tmp_path: Path) -> None:
    found: list[str] = []
    together = threading.Barrier(8)

    def start() -> None:
        together.wait()
        found.append(local_token(tmp_path / "token"))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1


def test_a_token_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    local_token(tmp_path / "token")
    (tmp_path / "token").chmod(0o640)
    with pytest.raises(AuthError, match="others may read") as refusal:
        local_token(tmp_path / "token")
    assert "chmod 600" in refusal.value.hint


def test_a_token_file_without_a_token_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").touch(mode=0o600)
    with pytest.raises(AuthError, match="holds no token"):
        local_token(tmp_path / "token")
    (tmp_path / "token").unlink()
    (tmp_path / "token").mkdir()
    with pytest.raises(StorageError, match="can't be used"):
        local_token(tmp_path / "token")


def test_tokens_are_long_random_and_compared_whole() -> None:
    one, other = new_token(), new_token()
    assert one != other and len(one) >= 43
    assert same_token(one, one) and not same_token(one, other)
    assert not same_token(one, one + "x") and not same_token(one, "ä")


def test_a_token_speaks_for_its_studio_with_its_rights_until_it_is_revoked(farm: QueueFarm) -> None:
    view, secret = farm.run(farm.dispatcher.create_token(STUDIO, "ann", {Scope.SUBMIT, Scope.REVIEW}))
    who = farm.dispatcher.token(secret)
    assert who == Identity("ann", STUDIO, frozenset({Scope.SUBMIT, Scope.REVIEW}))
    assert view.scopes == ("review", "submit")
    assert farm.dispatcher.tokens(STUDIO) == (view,)
    with pytest.raises(NotFoundError):
        farm.run(farm.dispatcher.revoke_token("elsewhere", view.id))
    assert farm.dispatcher.token(secret) == who
    farm.run(farm.dispatcher.revoke_token(STUDIO, view.id))
    assert farm.dispatcher.token(secret) is None
    assert farm.dispatcher.tokens(STUDIO)[0].revoked_at == farm.clock.now
    with pytest.raises(NotFoundError):
        farm.run(farm.dispatcher.revoke_token(STUDIO, view.id))


def test_tokens_hold_over_a_restart_and_stay_revoked(farm: QueueFarm) -> None:
    _, kept = farm.run(farm.dispatcher.create_token(STUDIO, "host", {Scope.WORKER}))
    ended, gone = farm.run(farm.dispatcher.create_token(STUDIO, "old", {Scope.ADMIN}))
    farm.run(farm.dispatcher.revoke_token(STUDIO, ended.id))
    again = Dispatcher(farm.store, farm.settings, clock=farm.clock)
    assert again.token(kept) == Identity("host", STUDIO, frozenset({Scope.WORKER}))
    assert again.token(gone) is None


def test_no_secret_is_ever_kept(farm: QueueFarm) -> None:
    _, secret = farm.run(farm.dispatcher.create_token(STUDIO, "ann", {Scope.SUBMIT}))
    (row,) = farm.store.read(lambda tx: [tuple(row) for row in tx.rows(select(TOKEN))])
    assert hash_token(secret) in row
    assert not any(secret in str(value) for value in row)
    assert farm.dispatcher.token(hash_token(secret)) is None


def test_rights_are_exact_and_only_admin_has_all() -> None:
    worker = Identity("host", STUDIO, frozenset({Scope.WORKER}))
    assert worker.allows(Scope.WORKER) and not worker.allows(Scope.SUBMIT)
    with pytest.raises(AuthError, match="host lacks the right 'wrangle'"):
        worker.require(Scope.WRANGLE)
    admin = Identity("local", STUDIO, frozenset({Scope.ADMIN}))
    assert all(admin.allows(scope) for scope in Scope)
