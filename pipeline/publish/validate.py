"""Validate: one small class for each promise that a version makes. All of them run, so that a person sees every fault at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

from pipeline.colorspace import CHROMATICITIES, interop_id
from pipeline.errors import PipelineError, PublishError
from pipeline.frames import FrameRange
from pipeline.layer import PixelType
from pipeline.publish.inspection import FrameFacts
from pipeline.publish.plugin import VALIDATE, InstancePlugin, PluginType, Publication, publication_of
from pipeline.publish.values import PublishRequest

Found = Iterable[tuple[int, str]]
"""(frame, what is wrong with it)."""
_MOST_TOLD = 4
_PRIMARIES_MATCH = 2e-3
_FROM_CHUNKS = "retry the chunks of these frames: plates retry"


class PlateValidator(InstancePlugin):
    """A promise about the frames. `find` yields what breaks it; frames that can't be read are told by `FramesWhole` alone."""

    order = VALIDATE
    families: ClassVar[list[str]] = ["plate"]
    hint: ClassVar[str] = _FROM_CHUNKS

    def process(self, instance: Any) -> None:
        """Raises: PublishError with every frame that breaks the promise."""
        found = list(self.find(publication_of(instance)))
        if found:
            raise PublishError(_told(found), self.hint)

    def find(self, publication: Publication) -> Found:
        """What breaks the promise; by default what `check` finds on each frame that could be read."""
        for facts in publication.facts.values():
            if facts.fault is None:
                for message in self.check(facts, publication.request):
                    yield facts.frame, message

    def check(self, facts: FrameFacts, request: PublishRequest) -> Iterable[str]:
        """What is wrong with one frame."""
        raise AssertionError(f"{type(self).__name__} has neither find nor check")


def _told(found: Found) -> str:
    """Frames with the same fault together: `1001-1004: channel Z is gone`."""
    frames: dict[str, list[int]] = defaultdict(list)
    for frame, message in found:
        frames[message].append(frame)
    said = [f"{FrameRange.of(where)}: {message}" for message, where in frames.items()]
    more = f" (and {len(said) - _MOST_TOLD} more)" if len(said) > _MOST_TOLD else ""
    return "; ".join(said[:_MOST_TOLD]) + more


class FramesWhole(PlateValidator):
    """Every frame that was asked for is there and decodes to its last pixel."""

    label = "frames whole"

    def find(self, publication: Publication) -> Found:
        request = publication.request
        for frame in request.frames:
            facts = publication.facts.get(frame)
            if facts is None:
                yield frame, "was not made"
            elif facts.fault is not None:
                yield frame, facts.fault.message
            elif facts.source_fault is not None:
                yield frame, f"the plate's own frame can't be read any more: {facts.source_fault.message}"


class RangeAsAsked(PlateValidator):
    """There are no frames that nobody asked for, and some that somebody did."""

    label = "frame range"
    hint = "the job's chunks and its frames disagree: submit it again"

    def find(self, publication: Publication) -> Found:
        request = publication.request
        if not request.frames:
            yield 0, "no frames were asked for"
        for frame in sorted(set(request.produced) - request.frames.as_set()):
            yield frame, f"was made, but {request.frames} was asked for"


class WindowsKept(PlateValidator):
    """Data and display window are the plate's, in every part — overscan and crops survive — or what the task was asked for."""

    label = "resolution and windows"

    def check(self, facts: FrameFacts, request: PublishRequest) -> Iterator[str]:
        assert facts.info is not None
        data, display = request.delivered()
        main = facts.info.main
        for name, made, wanted in (
            ("data window", main.data_window, data),
            ("display window", main.display_window, display),
        ):
            if made != wanted:
                yield f"the {name} is {made.as_list()}, {wanted.as_list()} was asked for"
        for made_part, part in zip(facts.parts, facts.source_parts, strict=False):
            wanted_data = data if part.data_window == request.plate.data_window else part.data_window
            if (made_part.data_window, made_part.display_window) not in {
                (wanted_data, display),
                (part.data_window, display),
            }:
                yield f"part {part.name!r} has other windows than the plate's"


class ChannelsKept(PlateValidator):
    """Every channel of the plate is there in its own type, every added layer too, and nothing else."""

    label = "channels and types"

    def check(self, facts: FrameFacts, request: PublishRequest) -> Iterator[str]:
        if not facts.source_parts:
            return
        if [p.name for p in facts.parts] != [p.name for p in facts.source_parts]:
            yield f"the parts are {[p.name for p in facts.parts]}, the plate's {[p.name for p in facts.source_parts]}"
            return
        extra: dict[str, PixelType] = {}
        for made, source in zip(facts.parts, facts.source_parts, strict=True):
            for name, kind in source.channels.items():
                if name not in made.channels:
                    yield f"channel {name} is gone"
                elif made.channels[name] != kind:
                    yield f"channel {name} is {made.channels[name]}, the plate's is {kind}"
            extra.update((n, k) for n, k in made.channels.items() if n not in source.channels)
        if request.makes_alpha:
            extra.pop("A", None)
        yield from _check_added(extra, request.added_layers)


def _check_added(extra: Mapping[str, PixelType], layers: tuple[str, ...]) -> Iterator[str]:
    for name, kind in extra.items():
        if name.rpartition(".")[0] not in layers:
            yield f"channel {name} belongs to no layer that the task says it adds"
        elif kind is PixelType.UINT:
            yield f"channel {name} is {kind}, a picture's is half or float"
    for layer in layers:
        if not any(name.rpartition(".")[0] == layer for name in extra):
            yield f"the added layer {layer} is missing"


class CodecAsAsked(PlateValidator):
    """The file is compressed as the job said: hosts read ZIPS line by line, and DWAA would spoil data."""

    label = "codec"

    def check(self, facts: FrameFacts, request: PublishRequest) -> Iterator[str]:
        assert facts.info is not None
        for codec in sorted({part.compression for part in facts.info.parts} - {request.codec}):
            yield f"is written as {codec}, not {request.codec}"


class ColourTagged(PlateValidator):
    """The file says its colour space, and it is the plate's: by `colorInteropID`, by chromaticities, never against either."""

    label = "colour tag"
    hint = "the plate's files may be tagged as another space than the job was told: correct --colorspace or the files"

    def check(self, facts: FrameFacts, request: PublishRequest) -> Iterator[str]:
        assert facts.info is not None
        wanted, tag, primaries = request.plate.colorspace, facts.info.colorspace, facts.info.chromaticities
        if tag is not None and _space(tag) != wanted:
            yield f"is tagged {tag!r}, its pixels are {wanted}"
        known = CHROMATICITIES.get(wanted)
        if primaries is not None and known is not None:
            if any(abs(a - b) > _PRIMARIES_MATCH for a, b in zip(primaries, known, strict=True)):
                yield f"has the chromaticities of another space than {wanted}"
        elif tag is None:
            yield f"doesn't say that it is {wanted}"


def _space(tag: str) -> str:
    try:
        return interop_id(tag)
    except PipelineError:
        return tag


class RateAndTimecode(PlateValidator):
    """The rate is the job's, the timecode the plate's."""

    label = "rate and timecode"

    def check(self, facts: FrameFacts, request: PublishRequest) -> Iterator[str]:
        assert facts.info is not None
        rate = request.rate or request.plate.rate
        if rate is not None and facts.info.rate != rate:
            yield f"is tagged {facts.info.rate or 'with no rate'}, the plate runs at {rate} frames a second"
        if facts.source_timecode is not None and facts.info.timecode != facts.source_timecode:
            yield f"carries timecode {facts.info.timecode}, the plate's frame {facts.source_timecode}"


class HeaderKept(PlateValidator):
    """What the plate's header says beside its pixels came through: `nuke/*`, owner, camera data, unknown keys."""

    label = "header"

    def check(self, facts: FrameFacts, request: PublishRequest) -> Iterator[str]:
        del request
        if facts.lost_header:
            yield f"lost or changed what the plate's header says: {', '.join(facts.lost_header[:5])}"


class ValuesFinite(PlateValidator):
    """No NaN and no infinity in the main picture and the added layers: one of them spoils a whole comp."""

    label = "NaN and infinities"
    hint = "where the plate has them too, fix the plate; else report it with the job's number"

    def check(self, facts: FrameFacts, request: PublishRequest) -> Iterator[str]:
        del request
        for name, count in facts.not_finite.items():
            yield f"channel {name} has {count} values that are NaN or infinite"


class UntouchedIdentical(PlateValidator):
    """Every pixel that the task doesn't own is the plate's, bit for bit."""

    label = "untouched pixels"
    hint = (
        "if the plate was replaced since the job was submitted, submit it again; else report it with the job's number"
    )

    def find(self, publication: Publication) -> Found:
        """As `check` finds; a plate that was replaced, but before the task read it, is only warned about."""
        replaced = FrameRange.of(frame for frame, facts in publication.facts.items() if facts.replaced)
        if replaced:
            publication.warnings.append(f"the plate's frames {replaced} were replaced after the job was submitted")
        return super().find(publication)

    def check(self, facts: FrameFacts, request: PublishRequest) -> Iterator[str]:
        del request
        if facts.altered:
            yield f"channels {', '.join(facts.altered)} differ from the plate's"


class WithinBounds(PlateValidator):
    """What the show asks of the measures holds on every frame; the artist may accept what the task lets them accept."""

    label = "quality"
    hint = "paint another key, change the parameters, or ask whoever sets the show's bounds"

    def find(self, publication: Publication) -> Found:
        """Frames whose measure lies beyond its bound, with by how much."""
        request = publication.request
        parameters: Mapping[str, Any] = request.record.get("parameters", {})
        for name, bound in request.bounds.items():
            if bound.unless and parameters.get(bound.unless):
                continue
            for frame, value in _measured(publication, name):
                if bound.least is not None and value < bound.least:
                    yield frame, f"{name} is below {bound.least:g}{_how_far(publication, name, min)}"
                if bound.most is not None and value > bound.most:
                    yield frame, f"{name} is above {bound.most:g}{_how_far(publication, name, max)}"


def _measured(publication: Publication, name: str) -> list[tuple[int, float]]:
    """A measure on the frames that have it: the task's own, or for `flicker` the worst of the mattes."""
    request = publication.request
    own = [(frame, request.quality[frame][name]) for frame in request.frames if name in request.quality.get(frame, {})]
    if own or name != "flicker":
        return own
    worst: dict[int, float] = {}
    for flicker in publication.flicker.values():
        for frame, value in flicker.per_frame.items():
            worst[frame] = max(value, worst.get(frame, 0.0))
    return sorted(worst.items())


def _how_far(publication: Publication, name: str, worst: Callable[[Iterable[float]], float]) -> str:
    return f", at worst {worst(value for _, value in _measured(publication, name)):.3g}"


class MatteValidator(InstancePlugin):
    """A promise about one matte layer over the whole shot."""

    order = VALIDATE
    families: ClassVar[list[str]] = ["matte"]
    hint: ClassVar[str] = ""

    def process(self, instance: Any) -> None:
        """Raises: PublishError."""
        publication = publication_of(instance)
        layer: str = instance.data["layer"]
        message = self.fault(publication, layer)
        if message:
            raise PublishError(f"layer {layer}: {message}", self.hint)

    def fault(self, publication: Publication, layer: str) -> str:
        """What is wrong with the layer; empty when nothing is."""
        raise AssertionError(f"{type(self).__name__} has no fault method")


class MatteInRange(MatteValidator):
    """A matte lies within 0 … 1 on every frame."""

    label = "matte range"
    hint = "report it with the job's number: a task must deliver mattes from 0 to 1"

    def fault(self, publication: Publication, layer: str) -> str:
        """Frames beyond the range, with how far they go."""
        beyond = {
            facts.frame: facts.mattes[layer]
            for facts in publication.facts.values()
            if layer in facts.mattes and not (facts.mattes[layer].low >= 0 and facts.mattes[layer].high <= 1)
        }
        if not beyond:
            return ""
        low, high = min(m.low for m in beyond.values()), max(m.high for m in beyond.values())
        return f"{FrameRange.of(beyond)}: reaches from {low:.4g} to {high:.4g}"


class MatteNotEmpty(MatteValidator):
    """A matte that is empty on every frame is no result. Single empty frames are: subjects leave the picture."""

    label = "matte content"
    hint = "give keys that show the subject, or more of them"

    def fault(self, publication: Publication, layer: str) -> str:
        """Said only when no frame has anything."""
        mattes = [facts.mattes[layer] for facts in publication.facts.values() if layer in facts.mattes]
        return "" if any(matte.high > 0 for matte in mattes) else "is empty on every frame"


class MatteAlive(MatteValidator):
    """When the artist's keys differ, the matte can't be the same on every frame."""

    label = "matte motion"
    hint = "report it with the job's number: the task gave one matte for the whole shot"

    def fault(self, publication: Publication, layer: str) -> str:
        """Said when all frames are alike although the keys of some object are not."""
        digests = {facts.mattes[layer].digest for facts in publication.facts.values() if layer in facts.mattes}
        if len(publication.request.frames) < 2 or len(digests) != 1:
            return ""
        return "is the same on every frame, although its keys differ" if _keys_differ(publication, layer) else ""


def _keys_differ(publication: Publication, layer: str) -> bool:
    """Whether an object that the layer shows has two different keys. The layer of all objects shows each of them."""
    keys: Mapping[str, Mapping[str, Any]] = publication.request.record.get("keys", {})
    shown = [keys[layer]] if layer in keys else list(keys.values())
    return any(len({str(key["hash"]) for key in of.values() if key.get("hash")}) > 1 for of in shown)


class MatteSteady(MatteValidator):
    """A matte doesn't flicker more than the job lets it; above a softer bound the report warns."""

    label = "flicker"
    hint = "add a key on the frame that jumps the most, or allow more flicker"

    def fault(self, publication: Publication, layer: str) -> str:
        """Said above `flicker_most_px`; a warning is left above `flicker_warn_px`."""
        request, flicker = publication.request, publication.flicker.get(layer)
        if flicker is None:
            return ""
        said = f"flickers by {flicker.score:.2f} pixels, most on frame {flicker.worst}"
        if request.flicker_most_px is not None and flicker.score > request.flicker_most_px:
            return f"{said}; at most {request.flicker_most_px:g} is allowed"
        if flicker.score > request.flicker_warn_px:
            publication.warnings.append(f"layer {layer} {said}")
        return ""


PLUGINS: tuple[PluginType, ...] = (
    FramesWhole,
    RangeAsAsked,
    WindowsKept,
    ChannelsKept,
    CodecAsAsked,
    ColourTagged,
    RateAndTimecode,
    HeaderKept,
    ValuesFinite,
    UntouchedIdentical,
    WithinBounds,
    MatteInRange,
    MatteNotEmpty,
    MatteAlive,
    MatteSteady,
)
