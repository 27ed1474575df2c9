"""Settings from the environment, and what may not be served."""

from __future__ import annotations

import os
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from farm.settings import FarmSettings, SettingsError, is_loopback


def test_with_nothing_said_everything_lies_in_the_users_data_folder() -> None:
    settings = FarmSettings.read({})
    assert settings.data == Path.home() / ".local" / "share" / "platewright"
    assert settings.database_url == f"sqlite:///{settings.data}/platewright.db"
    assert settings.publish_root == settings.data / "published"
    assert settings.token_file == settings.data / "token"
    assert (settings.host, settings.port, settings.roots) == ("127.0.0.1", 8763, ())
    assert settings.checked() is settings


def test_the_desktops_data_folder_is_honoured(tmp_path: Path) -> None:
    assert FarmSettings.read({"XDG_DATA_HOME": str(tmp_path)}).data == tmp_path / "platewright"
    assert FarmSettings.read({"XDG_DATA_HOME": "not/absolute"}).data == FarmSettings.read({}).data


def test_the_environment_sets_and_arguments_go_first(tmp_path: Path) -> None:
    environment = {
        "PLATEWRIGHT_DATA": str(tmp_path),
        "PLATEWRIGHT_PORT": "9000",
        "PLATEWRIGHT_LEASE_S": "12.5",
        "PLATEWRIGHT_ROOTS": os.pathsep.join(["/mnt/a", "/mnt/b"]),
        "PLATEWRIGHT_DATABASE_URL": "postgresql://farm@db/farm",
        "PLATEWRIGHT_OCIO_VIEW": "ACES 1.0 - SDR Video",
        "PLATEWRIGHT_SHOW": "",
    }
    settings = FarmSettings.read(environment, port=9001, host=None)
    assert (settings.port, settings.lease_s, settings.host) == (9001, 12.5, "127.0.0.1")
    assert settings.roots == (Path("/mnt/a"), Path("/mnt/b"))
    assert settings.database_url == "postgresql://farm@db/farm"
    assert (settings.ocio_view, settings.ocio_config, settings.show) == ("ACES 1.0 - SDR Video", None, "show")
    assert settings.publish_root == tmp_path / "published"


def test_a_value_that_can_not_be_read_names_its_variable() -> None:
    with pytest.raises(SettingsError, match="PLATEWRIGHT_PORT='many' is not a whole number"):
        FarmSettings.read({"PLATEWRIGHT_PORT": "many"})
    with pytest.raises(SettingsError, match="PLATEWRIGHT_LEASE_S='long' is not a number"):
        FarmSettings.read({"PLATEWRIGHT_LEASE_S": "long"})


def test_a_setting_that_does_not_exist_is_a_programming_error() -> None:
    with pytest.raises(TypeError, match="leese_s"):
        FarmSettings.read({}, leese_s=3)


def test_a_dispatcher_that_is_open_to_the_network_needs_roots(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="open to the network") as refusal:
        FarmSettings.read({}, host="0.0.0.0").checked()
    assert "PLATEWRIGHT_ROOTS" in refusal.value.hint
    FarmSettings.read({}, host="0.0.0.0", roots=(tmp_path,)).checked()


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("[::1]", True),
        ("127.8.9.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("farm.example", False),
        ("", False),
    ],
)
def test_loopback_is_this_machine_alone(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize("name", ["lease_s", "no_progress_s", "max_attempts", "reap_s"])
def test_numbers_out_of_their_range_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        replace(FarmSettings.read({}), **{name: 0}).checked()


def test_leases_must_be_looked_at_more_often_than_they_end() -> None:
    with pytest.raises(SettingsError, match="can't be looked at"):
        FarmSettings.read({}, lease_s=2.0).checked()


def test_settings_never_change() -> None:
    with pytest.raises(FrozenInstanceError):
        FarmSettings.read({}).port = 1  # type: ignore[misc]
