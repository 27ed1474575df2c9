"""Every setting of a dispatcher, in one frozen object, from the environment or from keyword arguments.

A field `lease_s` is read from `PLATEWRIGHT_LEASE_S`, and so for all of them. Imports nothing heavy.
"""

from __future__ import annotations

import ipaddress
import math
import os
import types
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self, get_args, get_origin, get_type_hints

from pipeline.errors import PipelineError

PREFIX = "PLATEWRIGHT_"
MOST_CURRENCY = 8


class SettingsError(PipelineError, ValueError):
    """A setting that can't be used, or two that may not go together."""


def _data_home(environment: Mapping[str, str]) -> Path:
    base = environment.get("XDG_DATA_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "share") / "platewright"


@dataclass(frozen=True, slots=True, kw_only=True)
class FarmSettings:
    """What a dispatcher works with. `FarmSettings.read()` fills it; `checked()` refuses what isn't safe to serve."""

    data: Path
    """The dispatcher's own folder: database, token, logs."""
    database_url: str = ""
    """`sqlite:///PATH` or `postgresql://USER@HOST/NAME`; empty for `platewright.db` in the data folder."""
    host: str = "127.0.0.1"
    port: int = 8763
    hosts: tuple[str, ...] = ()
    """Further names that it goes by, `name` or `name:port`, parted by commas."""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    """PEM files; both or none."""
    roots: tuple[Path, ...] = ()
    """Folders whose files may be read, parted by the system's path separator. None named: any file this user may read,
    on a loopback address only."""
    publish_root: Path = Path()
    """Where versions go; empty for `published` in the data folder."""
    studio: str = "local"
    show: str = "show"
    version_template: str = "{show}/{sequence}/{shot}/{product}/{version}"
    lease_s: float = 30.0
    """A worker that is silent for so long loses its chunk."""
    no_progress_s: float = 600.0
    """A worker that talks but gets nowhere for so long loses its chunk."""
    max_attempts: int = 3
    """Failures that count, until a chunk has failed."""
    retry_backoff_s: float = 2.0
    """Wait before a failed chunk is tried again; doubled with each failure."""
    storage_backoff_s: float = 10.0
    storage_backoff_most_s: float = 120.0
    """Wait after a storage fault; doubled with each, up to the second."""
    long_poll_s: float = 20.0
    """How long an idle worker's request for work is kept open."""
    reap_s: float = 1.0
    """How often leases are looked at."""
    bounds_file: Path | None = None
    """JSON of what shows ask of their results; see `farm/bounds.py`. None: each task's own bounds alone."""
    rules: Path | None = None
    """Folder of what studios and shows allow; see `farm/rules.py`. None: everything is allowed."""
    proxy_height: int = 540
    ocio_config: str | None = None
    """An OCIO config file; none for the built-in one."""
    ocio_display: str = "sRGB - Display"
    """The display of review proxies, as the OCIO config names it."""
    ocio_view: str | None = None
    """The view for review proxies; none for the config's default."""
    currency: str = ""
    """What money is counted in, as it is printed: `EUR`."""
    machine_hour: float = 0.0
    """Price of an hour of one worker; a worker's own tag `hour_price` goes before it."""
    gpu_hour: float = 0.0
    """Price of an hour of each GPU that a worker holds, on top."""

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ, /, **given: Any) -> Self:
        """The settings of an environment; what is `given` and not None goes first.

        Raises: SettingsError naming the variable that can't be read.
        """
        kinds = get_type_hints(cls)
        values: dict[str, Any] = {}
        for field in fields(cls):
            name = PREFIX + field.name.upper()
            if given.get(field.name) is not None:
                values[field.name] = given[field.name]
            elif environment.get(name):
                values[field.name] = _value(environment[name], kinds[field.name], name)
        if unknown := set(given) - {field.name for field in fields(cls)}:
            raise TypeError(f"no such settings: {sorted(unknown)}")
        values.setdefault("data", _data_home(environment))
        settings = cls(**values)
        data = settings.data.expanduser().absolute()
        publish_root = settings.publish_root.expanduser().absolute() if settings.publish_root != Path() else None
        return replace(
            settings,
            data=data,
            database_url=settings.database_url or f"sqlite:///{data / 'platewright.db'}",
            publish_root=publish_root or data / "published",
            roots=tuple(root.expanduser().absolute() for root in settings.roots),
        )

    @property
    def token_file(self) -> Path:
        """The local token, readable by this user alone."""
        return self.data / "token"

    @property
    def url(self) -> str:
        """Where this dispatcher is reached from its own machine."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::", "") else self.host  # noqa: S104 - compared, not bound
        return f"{'https' if self.tls_cert else 'http'}://{f'[{host}]' if ':' in host else host}:{self.port}"

    def host_names(self) -> frozenset[str]:
        """The `Host` headers that this dispatcher answers to: a name that was rebound to its address is none of them."""
        names = {"localhost", "127.0.0.1", "[::1]", self.host, *self.hosts}
        return frozenset({f"{name}:{self.port}" for name in names} | set(self.hosts))

    def proxy_settings(self) -> dict[str, Any]:
        """How a publish makes its review proxies, as plain JSON."""
        return {
            "height": self.proxy_height,
            "config": self.ocio_config,
            "display": self.ocio_display,
            "view": self.ocio_view,
            "cache": str(self.data / "views"),
        }

    @property
    def alive_s(self) -> float:
        """A worker not heard of for so long counts as gone. An idle one asks again within the long poll."""
        return self.lease_s + self.long_poll_s

    def checked(self) -> Self:
        """These settings, if a server may run on them.

        Raises: SettingsError: open to the network without roots, or a number out of its range.
        """
        if not self.roots and not is_loopback(self.host):
            raise SettingsError(
                f"host {self.host} is open to the network, and no roots are set: anyone with a token could read any file",
                f"set {PREFIX}ROOTS to the folders that plates lie in, or keep to 127.0.0.1",
            )
        for name in (
            "lease_s",
            "no_progress_s",
            "long_poll_s",
            "reap_s",
            "max_attempts",
            "proxy_height",
        ):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} must be above 0, not {getattr(self, name)}", f"see {PREFIX}{name.upper()}")
        for name in ("machine_hour", "gpu_hour"):
            if not (getattr(self, name) >= 0 and math.isfinite(getattr(self, name))):
                raise SettingsError(f"{name} is no price: {getattr(self, name)}", f"see {PREFIX}{name.upper()}")
        if len(self.currency) > MOST_CURRENCY or not self.currency.isprintable():
            raise SettingsError(
                f"currency {self.currency!r} is longer than {MOST_CURRENCY} letters, or can't be printed",
                f"write it as EUR; see {PREFIX}CURRENCY",
            )
        if not 0 <= self.port <= 65535:
            raise SettingsError(f"port {self.port} is outside 0 to 65535", f"see {PREFIX}PORT")
        if self.reap_s * 3 > self.lease_s:
            raise SettingsError(
                f"leases of {self.lease_s} s can't be looked at every {self.reap_s} s", f"lower {PREFIX}REAP_S"
            )
        return self


def is_loopback(host: str) -> bool:
    """Whether a bind address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _value(said: str, kind: Any, name: str) -> Any:
    if isinstance(kind, types.UnionType):
        kind = next(part for part in get_args(kind) if part is not types.NoneType)
    if get_origin(kind) is tuple:
        if get_args(kind)[0] is str:
            return tuple(part.strip() for part in said.split(",") if part.strip())
        return tuple(Path(part) for part in said.split(os.pathsep) if part)
    try:
        return kind(said)
    except ValueError as error:
        what = {int: "a whole number", float: "a number"}.get(kind, "readable")
        raise SettingsError(f"{name}={said!r} is not {what}", f"change or unset {name}") from error
