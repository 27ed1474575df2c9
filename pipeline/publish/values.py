"""What goes into a publish and what comes out: plain values, and the names of what lies in a version's folder.

Light on purpose: whoever only looks for a published file imports no picture library.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.colorspace import PINNED_CONFIG
from pipeline.errors import Fault, PublishError
from pipeline.frames import FrameRange
from pipeline.plate import Plate, Window
from pipeline.publish.signing import SigningIdentity
from pipeline.rate import FrameRate
from pipeline.tasks.definition import Bound
from pipeline.version import Version


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySettings:
    """How review proxies are made: JPEGs of at most `height` lines; `view` None is the display's default view."""

    cache: Path | str
    """Where baked views are kept."""
    height: int = 540
    view: str | None = None
    display: str = "sRGB - Display"
    config: str = PINNED_CONFIG


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishRequest:
    """One take's frames, to be put in place as one version."""

    version: Version
    plate: Plate
    """The input. Colour space and rate are what the version must have too, and its windows where `windows` is None."""
    windows: tuple[Window, Window] | None = None
    """Data and display window of what is delivered, when the task makes more than the plate shows."""
    missing: FrameRange = field(default_factory=FrameRange)
    """Frames asked for that the plate hasn't: the task made them, after the likeness of the nearest that it has."""
    source_colorspace: str = ""
    """What the plate's files are in before they are read to scene-linear; empty when they are in the plate's own space."""
    frames: FrameRange
    """What was asked for."""
    produced: Mapping[int, Path]
    """Frame → its EXR in an accepted attempt's folder: the plate's own layers and the new ones, final pixels."""
    added_layers: tuple[str, ...]
    """Names of the layers that the task added, such as `matte`."""
    changed_rgb: bool = False
    """Whether the main picture's R, G and B may differ from the plate's. All its other channels never may."""
    makes_alpha: bool = False
    """Whether the main picture's A is the task's."""
    content_keys: Mapping[int, str] = field(default_factory=dict)
    """Frame → what it depends on, as `pipeline.jobs.keys` has it: a later version links frames whose key is the same."""
    reused: FrameRange = field(default_factory=FrameRange)
    """Frames that are an earlier version's, bit for bit."""
    painted: bool = True
    """Whether the task works from frames that an artist paints: then the report names the next one to paint."""
    splines: float | None = None
    """Intersection over union at which mattes are written as editable shapes too; None writes none."""
    cuts: tuple[int, ...] = ()
    """First frames of other shots in the range."""
    bounds: Mapping[str, Bound] = field(default_factory=dict)
    """Measure → what it must keep to on every frame; `flicker` is measured by the publish itself."""
    quality: Mapping[int, Mapping[str, float]]
    record: Mapping[str, Any]
    """Provenance, as `pipeline.provenance.record` makes it; `job` names the job that the version belongs to."""
    input_hashes: Mapping[int, str] = field(default_factory=dict)
    """Frame → `pixel_hash` of the plate's frame when the job was submitted. A frame with one need not be decoded again."""
    codec: str = "zips"
    rate: FrameRate | None = None
    cut: tuple[Path, str] | None = None
    """The source timeline and the clip's name: a copy of it that plays the version lies beside the frames."""
    proxies: ProxySettings | None = None
    scratch: Path
    """A folder of this attempt's own, best on the file system of the version."""
    flicker_warn_px: float = 8.0
    """A matte's flicker score above which the report warns; see `pipeline.quality.temporal` for what shots score."""
    flicker_most_px: float | None = None
    """The flicker score above which nothing is published; None lets every score pass."""
    signing: SigningIdentity | None = None
    """Who signs a C2PA manifest for each frame; None signs none."""
    threads: int = 2

    def delivered(self) -> tuple[Window, Window]:
        """Data and display window that every frame must have."""
        return self.windows or (self.plate.data_window, self.plate.display_window)

    def like(self, frame: int) -> int:
        """The plate's frame that a frame is, or that it was made like: the nearest of its own shot."""
        if frame not in self.missing:
            return frame
        cuts = sorted(self.cuts)
        shot = bisect_right(cuts, frame)
        mine = [own for own in self.plate.frames if bisect_right(cuts, own) == shot]
        return min(mine or self.plate.frames, key=lambda own: (abs(own - frame), own))


@dataclass(frozen=True, slots=True)
class PublishedVersion:
    """A version in its place. `report`: `frames` (per frame: frame, confidence, …), `next_key`, `flicker`."""

    name: str
    folder: Path
    frames: FrameRange
    layers: tuple[str, ...]
    colorspace: str
    sidecar: Path
    otio: Path | None
    warnings: tuple[str, ...]
    report: Mapping[str, Any]


class PublishRefused(PublishError):
    """All that stands against a publish, gathered before anything was written. `where` of a fault is the check's label."""

    def __init__(self, name: str, faults: Sequence[Fault]) -> None:
        self.name = name
        self.faults = tuple(faults)
        count = f"{len(self.faults)} checks refuse it: " if len(self.faults) > 1 else ""
        said = "; ".join(f"{fault.where}: {fault.message}" for fault in self.faults)
        hints = dict.fromkeys(fault.hint for fault in self.faults if fault.hint)
        super().__init__(f"{name} is not published: {count}{said}", "; ".join(hints))

    def __reduce__(self) -> tuple[type[PublishRefused], tuple[str, tuple[Fault, ...]]]:  # type: ignore[override]
        return PublishRefused, (self.name, self.faults)


def sidecar_path(version: Version, folder: Path | None = None) -> Path:
    """The provenance beside the frames."""
    return (folder or version.folder) / f"{version.name}.json"


def manifest_path(version: Version, frame: int, folder: Path | None = None) -> Path:
    """The C2PA manifest beside a frame."""
    return (folder or version.folder) / Path(version.pattern.name(frame)).with_suffix(".c2pa")


def timeline_path(version: Version, folder: Path | None = None) -> Path:
    """The copy of the cut that plays this version."""
    return (folder or version.folder) / f"{version.name}.otio"


def proxy_path(folder: Path, kind: str, frame: int) -> Path:
    """A review proxy; kinds are `beauty`, `matte` and `overlay`."""
    return folder / "proxy" / kind / f"{frame:04d}.jpg"


def shapes_folder(folder: Path) -> Path:
    """Where editable shapes lie in a version's folder."""
    return folder / "shapes"
