"""Reads a stranger's timeline file into OpenTimelineIO, refusing what would crash, hang or bloat its parsers.

OpenTimelineIO's JSON reader overflows the C stack on deep nesting (200,000 brackets end the process), so depth is counted by a
linear scan before it is let near the text; XML is run through expat once, which also refuses entities. What still goes wrong
costs a child process: callers read files of others through `farm/inspector.py`.
"""

from __future__ import annotations

import json
import re
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any
from xml.parsers import expat

import opentimelineio as otio

from pipeline.edit import dialects
from pipeline.errors import EditError
from pipeline.rate import FrameRate

MOST_BYTES = 128 << 20
"""Above the OTIO of a feature film with all its markers and metadata, below what a child may hold parsed."""
DEEPEST = 200
"""Brackets inside brackets. A clip inside ten nested compounds stays under 60."""
SUFFIXES = (".otio", ".otioz", ".otiod", ".edl", ".xml", ".fcpxml", ".aaf", ".ale")
NOTE = "platewright.read"
"""Metadata key, in memory only, under which the reader says what it had to assume."""

_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[{]|[\]}]|"', re.DOTALL)
_READABLE = (
    otio.schema.Timeline,
    otio.schema.SerializableCollection,
    otio.schema.Clip,
    otio.schema.Stack,
    otio.schema.Track,
)


def read_timeline(path: Path | str, *, rate: FrameRate | None = None) -> Any:
    """The timeline, collection, or lone clip, stack or track in a file.

    `rate` is for formats that name none (EDL, ALE without a heading); without it one is inferred and said in the warnings.
    Raises: EditError, with what, where and what to do.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise EditError(
            f"{path}: {suffix or 'a file without ending'} is not a timeline", f"known: {' '.join(SUFFIXES)}"
        )
    data = _bytes(path)
    try:
        found = _parse(path, suffix, data, rate)
    except EditError:
        raise
    except RecursionError:
        raise EditError(
            f"{path}: nested too deep to read", "flatten the nested sequences and export it again"
        ) from None
    except Exception as error:  # adapters raise whatever their own parsers do
        words = " ".join(str(error).split())[:300] or type(error).__name__
        raise EditError(f"{path}: can't be read as a timeline: {words}", "export it again, best as .otio") from None
    if not isinstance(found, _READABLE):
        raise EditError(f"{path}: holds no timeline, but {_kind(found)}", "export a timeline, a collection or a clip")
    return found


def _bytes(path: Path) -> bytes:
    """The file's bytes, of the timeline alone for bundles. Raises: EditError."""
    try:
        if path.suffix.lower() == ".otiod":
            path = path / "content.otio"
        if path.is_dir():
            raise EditError(f"{path}: is a folder", "name the timeline file inside")
        size = path.stat().st_size
        if size == 0:
            raise EditError(f"{path}: is empty (0 bytes)", "export the timeline again")
        if size > MOST_BYTES:
            raise EditError(
                f"{path}: {size >> 20} MiB is more than {MOST_BYTES >> 20} MiB",
                "export one reel or sequence at a time, without embedded media",
            )
        if path.suffix.lower() == ".otioz":
            return _unzipped(path)
        return path.read_bytes()
    except OSError as error:
        raise EditError(f"{path}: {error.strerror or error}", "check the path and its permissions") from None


def _unzipped(path: Path) -> bytes:
    """`content.otio` out of a bundle; its media is left alone. Raises: EditError."""
    try:
        with zipfile.ZipFile(path) as bundle, bundle.open("content.otio") as member:
            data = member.read(MOST_BYTES + 1)
    except (zipfile.BadZipFile, KeyError, RuntimeError, NotImplementedError, EOFError, ValueError) as error:
        raise EditError(f"{path}: is no OTIO bundle: {error}", "export it again, or as plain .otio") from None
    if len(data) > MOST_BYTES:
        raise EditError(f"{path}: its timeline expands past {MOST_BYTES >> 20} MiB", "export it as plain .otio")
    if not data:
        raise EditError(f"{path}: its timeline is empty (0 bytes)", "export it again")
    return data


def _parse(path: Path, suffix: str, data: bytes, rate: FrameRate | None) -> Any:
    if suffix in {".otio", ".otioz", ".otiod"}:
        return _otio_json(path, data)
    if suffix in {".xml", ".fcpxml"}:
        adapter = _xml_adapter(path, data)
        return otio.adapters.read_from_string(data.decode("utf-8-sig"), adapter)
    if suffix == ".aaf":
        _check_aaf(path)
        return otio.adapters.read_from_file(str(path), "AAF")
    text = _text(data)
    return _ale(text, rate) if suffix == ".ale" else _edl(path, text, rate)


def _otio_json(path: Path, data: bytes) -> Any:
    _check_depth(path, data)
    text = data.decode("utf-8-sig")
    try:
        return otio.adapters.read_from_string(text, "otio_json")
    except otio.exceptions.UnsupportedSchemaError:
        newer = dialects.older_markers(json.loads(text))
        try:
            return otio.adapters.read_from_string(json.dumps(newer), "otio_json")
        except otio.exceptions.UnsupportedSchemaError as error:
            raise EditError(
                f"{path}: written by a newer OpenTimelineIO: {error}", "export it for OpenTimelineIO 0.18 or earlier"
            ) from None


def _check_depth(path: Path, data: bytes) -> None:
    """Refuse JSON nested deeper than `DEEPEST`, in one pass that takes no stack. Raises: EditError."""
    depth = 0
    for match in _TOKEN.finditer(data):
        mark = data[match.start()]
        if mark in b"[{":
            depth += 1
            if depth > DEEPEST:
                raise EditError(
                    f"{path}: nested deeper than {DEEPEST} levels, at byte {match.start()}",
                    "no real edit is; flatten nested sequences and export it again",
                )
        elif mark in b"]}":
            depth -= 1
        elif len(match[0]) == 1:
            raise EditError(f"{path}: text breaks off inside quotes at byte {match.start()}", "export it again")


def _xml_adapter(path: Path, data: bytes) -> str:
    """The adapter of an XML timeline by its root element. Raises: EditError (not XML, entities, too deep, another root)."""
    parser = expat.ParserCreate()
    depth = 0
    root = ""

    def start(name: str, _attributes: dict[str, str]) -> None:
        nonlocal depth, root
        root = root or name
        depth += 1
        if depth > DEEPEST:
            raise EditError(f"{path}: elements nested deeper than {DEEPEST} levels", "flatten nested sequences")

    def end(_name: str) -> None:
        nonlocal depth
        depth -= 1

    def entity(*_declaration: Any) -> None:
        raise EditError(f"{path}: declares XML entities", "no editing system writes them: export it again")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.EntityDeclHandler = entity
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise EditError(f"{path}: is not whole XML: {error}", "export it again") from None
    adapters = {"xmeml": "fcp_xml", "fcpxml": "fcpx_xml"}
    if root not in adapters:
        raise EditError(f"{path}: <{root}> is no timeline", "export Final Cut XML (xmeml or fcpxml), or .otio")
    return adapters[root]


def _check_aaf(path: Path) -> None:
    """Refuse what is no AAF container, over a handle of ours: the library leaves its own open when it fails. Raises: EditError."""
    container = import_module("aaf2.cfb").CompoundFileBinary  # by name: only AAF pays for this import
    with path.open("rb") as file:
        try:
            found = container(file, "rb").find("/MetaDictionary-1")
        except Exception as error:  # it raises whatever its parsing stumbles on
            raise EditError(f"{path}: is no AAF file: {error or type(error).__name__}", "export it again") from None
    if found is None:
        raise EditError(f"{path}: is no whole AAF file", "export it again")


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _edl(path: Path, text: str, rate: FrameRate | None) -> Any:
    if not re.search(r"^\s*\d+\s+\S+\s+\S+\s+[A-Z]", text, re.MULTILINE):
        raise EditError(f"{path}: has no event", "export a CMX 3600 EDL")
    counting = dialects.edl_counting(text)
    value = counting.rate if rate is None else rate.value
    found = otio.adapters.read_from_string(
        dialects.edl_for_reader(text, counting, value), "cmx_3600", rate=float(value)
    )
    if rate is None:
        found.metadata[NOTE] = counting.note
    return found


def _ale(text: str, rate: FrameRate | None) -> Any:
    options = {} if rate is None else {"fps": float(rate)}
    found = otio.adapters.read_from_string(text, "ale", **options)
    if not len(found):
        raise EditError("the ALE lists no clip", "export it again with its Column and Data sections")
    if rate is None and not re.search(r"^FPS\t", text, re.MULTILINE):
        found.metadata[NOTE] = "the ALE names no frame rate: 24 is taken"
    return found


def _kind(found: Any) -> str:
    if isinstance(found, otio.core.SerializableObject):
        return f"a {found.schema_name()}"
    return "plain data"
