"""pyblish as this product uses it: its plug-in classes with types, and the one object that travels through them.

pyblish hands plug-ins an untyped bag of data. Here the bag holds one thing, a `Publication`, and everything that one
plug-in leaves for another is a field of it. Orders are pyblish's: 0 collect, 1 validate, 2 extract, 3 integrate.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from pipeline.publish.values import PublishRequest
from pipeline.quality.temporal import Flicker

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.publish.inspection import FrameFacts

    class ContextPlugin:
        """A plug-in that runs once a publish."""

        order: ClassVar[float]
        label: ClassVar[str]

    class InstancePlugin:
        """A plug-in that runs once for each instance of its families."""

        order: ClassVar[float]
        label: ClassVar[str]
        families: ClassVar[list[str]]

else:
    from pyblish.api import ContextPlugin, InstancePlugin

# pyblish brings a six of 2014 that hooks into every later import of the process and makes Python warn at each; it is needed
# no longer once pyblish is loaded.
sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != "pyblish.vendor.six"]

__all__ = [
    "COLLECT",
    "EXTRACT",
    "INTEGRATE",
    "VALIDATE",
    "ContextPlugin",
    "InstancePlugin",
    "PluginType",
    "Publication",
    "publication_of",
]

COLLECT, VALIDATE, EXTRACT, INTEGRATE = 0.0, 1.0, 2.0, 3.0
PluginType: TypeAlias = "type[ContextPlugin] | type[InstancePlugin]"
_KEY = "publication"


@dataclass(slots=True)
class Publication:
    """One publish under way. Collectors fill `facts` and `flicker`, extractors `files`; anyone may add a warning."""

    request: PublishRequest
    progress: Callable[[float, str], None]
    facts: dict[int, FrameFacts] = field(default_factory=dict)
    flicker: dict[str, Flicker] = field(default_factory=dict)
    """Matte layer → how it flickers."""
    shapes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Matte layer → how its editable shapes stand for it."""
    warnings: list[str] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)
    """Path inside the version's folder → where the file lies now."""

    @property
    def scratch(self) -> Path:
        """Where extractors write: thrown away at the end, whatever happens."""
        return self.request.scratch / "publish"

    def put_into(self, context: Any) -> None:
        """Let every plug-in of this context find it."""
        context.data[_KEY] = self


def publication_of(thing: Any) -> Publication:
    """The publish that a pyblish context or instance belongs to."""
    context = getattr(thing, "context", thing)
    found = context.data[_KEY]
    assert isinstance(found, Publication)
    return found
