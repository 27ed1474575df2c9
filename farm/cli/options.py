"""Options of `submit` and `run`: the ones that every task has, and those that a task's form asks for."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pipeline.errors import Fault, PipelineError, SubmissionRefused
from pipeline.parameters import PATH_KINDS, Kind, describe, path_parameters
from pipeline.tasks.definition import TaskDefinition

_KEY = re.compile(r"(?:(?P<object>[A-Za-z0-9][A-Za-z0-9.\-]*):)?(?P<frame>-?\d+)=(?P<path>.+)", re.DOTALL)


class _Numbers(click.ParamType[Any]):
    """Comma-separated numbers, a semicolon between groups: `10,20;30,40`."""

    name = "numbers"

    def __init__(self, groups: bool, metavar: str) -> None:
        self._groups = groups
        self._metavar = metavar

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return self._metavar

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            groups = [[float(n) for n in group.split(",")] for group in value.split(";") if group.strip()]
        except ValueError:
            self.fail(f"{value!r} is not {self._metavar}", param, ctx)
        return (
            groups
            if self._groups
            else groups[0]
            if len(groups) == 1
            else self.fail(f"{value!r} is not {self._metavar}", param, ctx)
        )


class _Keyed(click.FloatRange):
    """A number, or a curve of it: `0.5`, `1001:0,1024:1`, `smooth:1001:0,1024:1`, `audio:FILE:LOW:HIGH`, `beat:FILE:LOW:HIGH`."""

    name = "number or curve"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "NUMBER|FRAME:NUMBER,…|audio:FILE:LOW:HIGH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str) or ":" not in value:
            return super().convert(value, param, ctx)  # type: ignore[arg-type]
        word, _, rest = value.partition(":")
        try:
            if word in ("audio", "beat"):
                path, low, high = rest.rsplit(":", 2)
                measure = "amplitude" if word == "audio" else "beat"
                return {"audio": _absolute(path), "measure": measure, "low": float(low), "high": float(high)}
            if word in ("linear", "smooth", "hold"):
                return {"keys": _curve_keys(rest), "interpolation": word}
            return {"keys": _curve_keys(value)}
        except ValueError:
            self.fail(f"{value!r} is not {self.get_metavar(param, ctx)}", param, ctx)  # type: ignore[arg-type]


def _curve_keys(text: str) -> dict[str, float]:
    """`1001:0,1024:1` as frame → number. Raises: ValueError."""
    pairs = [pair.rsplit(":", 1) for pair in text.split(",")]
    keys = {str(int(frame)): float(number) for frame, number in pairs}
    if len(keys) < len(pairs) or not all(map(math.isfinite, keys.values())):
        raise ValueError("a frame is there twice, or has no finite value")
    return keys


class _Strokes(click.ParamType[Any]):
    """Strokes of `FRAME,X,Y` samples: a semicolon between samples, a bar between strokes."""

    name = "strokes"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "FRAME,X,Y;FRAME,X,Y…|…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return [
                [
                    [int(frame), float(x), float(y)]
                    for frame, x, y in (s.split(",") for s in stroke.split(";") if s.strip())
                ]
                for stroke in value.split("|")
                if stroke.strip()
            ]
        except ValueError:
            self.fail(f"{value!r} is not FRAME,X,Y;…|…", param, ctx)


def _float(entry: dict[str, Any]) -> Any:
    low, high = entry.get("min"), entry.get("max")
    return _Keyed(low, high) if entry.get("keyable") else click.FloatRange(low, high)


def _choice(entry: dict[str, Any]) -> Any:
    return click.Choice(entry["choices"])


CONTROLS: dict[Kind, Callable[[dict[str, Any]], Any]] = {
    Kind.INT: lambda e: click.IntRange(e.get("min"), e.get("max")) if {"min", "max"} & set(e) else click.INT,
    Kind.FLOAT: _float,
    Kind.BOOL: lambda _: click.BOOL,
    Kind.TEXT: lambda _: click.STRING,
    Kind.CHOICE: _choice,
    Kind.SEED: lambda e: click.IntRange(e.get("min"), e.get("max")),
    Kind.COLOR: lambda _: _Numbers(False, "R,G,B"),
    Kind.POINT: lambda _: _Numbers(False, "X,Y"),
    Kind.POINTS: lambda _: _Numbers(True, "X,Y;X,Y…"),
    Kind.BOX: lambda _: _Numbers(False, "X,Y,X,Y"),
    Kind.MASK: lambda _: click.Path(),
    Kind.REFERENCE: lambda _: click.Path(),
    Kind.PLATE: lambda _: click.STRING,
    Kind.AUDIO: lambda _: click.Path(),
    Kind.STROKE: lambda _: _Strokes(),
    Kind.MODEL: lambda _: click.Path(),
}
"""Kind of parameter → how the command line asks for it."""


def task_options(definition: TaskDefinition) -> list[click.Option]:
    """One option for each parameter that the command line shows."""
    options: list[click.Option] = []
    for entry in describe(definition.parameters)["parameters"]:
        if entry["visible_in"] and "cli" not in entry["visible_in"]:
            continue
        flag = "--" + entry["name"].replace("_", "-")
        kind = Kind(entry["kind"])
        unit = f" [{entry['unit']}]" if entry["unit"] else ""
        default = "" if entry.get("default") is None else f"  (default {entry['default']})"
        declaration = [f"{flag}/--no-{flag[2:]}"] if kind is Kind.BOOL else [flag]
        options.append(
            click.Option(
                [*declaration, f"param_{entry['name']}"],
                type=CONTROLS[kind](entry),
                default=None,
                help=entry["help"] + unit + default,
                required=False,
            )
        )
    return options


def common_options() -> list[click.Option]:
    """What every task's submission can say."""
    return [
        click.Option(
            ["--plate"],
            required=True,
            metavar="PLATE",
            help="name.####.exr, name.%04d.exr, a folder, or one file of the sequence.",
        ),
        click.Option(["--cut"], metavar="FILE", help="The timeline: OTIO, EDL, FCP7 XML, FCPX, AAF."),
        click.Option(["--clip"], metavar="NAME", help="The clip in the cut; not needed when it has only one."),
        click.Option(
            ["--handles"],
            type=click.IntRange(0, 10_000),
            help="Frames beside the cut, as far as the media has them (default 8).",
        ),
        click.Option(["--frames"], metavar="RANGE", help="Deliver just these: 1001-1048 or 1001,1005."),
        click.Option(
            ["--key", "keys"],
            multiple=True,
            metavar="[OBJECT:]FRAME=FILE",
            help="A keyframe: an image, or shapes (.nk, .json, .svg); again for each.",
        ),
        click.Option(["--show"], help="The show it belongs to."),
        click.Option(["--sequence"], help="The sequence, where the show has them."),
        click.Option(["--shot"], help="The shot; the clip's name if not given."),
        click.Option(["--colorspace"], help="What the plate is in, when its files don't say."),
        click.Option(["--rate"], help="Frames a second, when neither plate nor cut says: 24, 23.976, 24000/1001."),
        click.Option(
            ["--model"],
            help="One of the studio's models, or a path; if not given, what is in production, else the task's own.",
        ),
        click.Option(["--model-sha256"], metavar="HEX", help="What the weights' SHA-256 must be."),
        click.Option(
            ["--wedge", "wedges"],
            multiple=True,
            metavar="NAME=V1,V2…",
            help="Make a take of each value of a parameter, or of model; again to combine. A bar parts values with commas.",
        ),
        click.Option(["--seed-from"], metavar="v003", help="Take the seed of an earlier version."),
        click.Option(
            ["--codec"],
            type=click.Choice(["zips", "zip", "piz", "none"]),
            help="Compression of the published EXR (default zips).",
        ),
        click.Option(
            ["--use"],
            type=click.Choice(["temp", "final"]),
            help="What the result is for; the show's rules say what that needs.",
        ),
        click.Option(
            ["--chunk", "chunk_frames"], type=click.IntRange(1), help="Frames that one worker takes at a time."
        ),
        click.Option(["--out"], metavar="DIR", help="Where versions are published."),
    ]


def request_body(definition: TaskDefinition, given: dict[str, Any]) -> dict[str, Any]:
    """The request that travels: only what was given, paths made absolute. Raises: SubmissionRefused (an unreadable --key)."""
    body: dict[str, Any] = {"task": definition.name}
    plain = (
        "clip",
        "handles",
        "frames",
        "show",
        "sequence",
        "shot",
        "colorspace",
        "rate",
        "model",
        "codec",
        "chunk_frames",
        "priority",
        "pool",
        "model_sha256",
        "seed_from",
        "preset",
        "use",
    )
    body.update({name: given[name] for name in plain if given.get(name) is not None})
    body.update({name: _absolute(given[name]) for name in ("plate", "cut", "out") if given.get(name) is not None})
    if body.get("model"):
        body["model"] = _weights(body["model"])
    if given.get("keys"):
        body["keys"] = _keys(given["keys"])
    if given.get("wedges"):
        body["wedge"] = _wedge(definition, given["wedges"])
    paths = path_parameters(definition.parameters)
    parameters = {name[6:]: value for name, value in given.items() if name.startswith("param_") and value is not None}
    body["parameters"] = {name: _absolute(value) if name in paths else value for name, value in parameters.items()}
    return body


def _wedge(definition: TaskDefinition, texts: tuple[str, ...]) -> dict[str, list[Any]]:
    """Parameter → its values, each read as its own option would read it. Raises: SubmissionRefused."""
    entries = {entry["name"]: entry for entry in describe(definition.parameters)["parameters"]}
    out: dict[str, list[Any]] = {}
    faults: list[Fault] = []
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.replace("-", "_")
        if not equals or (name != "model" and name not in entries):
            known = ", ".join(sorted(entries))
            faults.append(Fault(f"--wedge {text}", "is not NAME=V1,V2", f"names: {known}, model"))
            continue
        if name in out:
            faults.append(Fault(f"--wedge {text}", f"names {name} again", "give all its values at once"))
            continue
        if name == "model":
            out[name] = [_weights(value) for value in values.split(",")]
            continue
        kind = Kind(entries[name]["kind"])
        control = CONTROLS[kind](entries[name])
        try:
            # A bar parts values that hold commas themselves: colours, points, curves.
            parted = values.split("|" if "|" in values else ",")
            read = [control.convert(value, None, None) for value in parted]
        except click.BadParameter as error:
            faults.append(Fault(f"--wedge {text}", error.message, entries[name]["help"]))
            continue
        if any(isinstance(value, dict) and "keys" in value for value in read):
            # Its commas part values here: a curve of two keys would become two takes.
            faults.append(Fault(f"--wedge {text}", "holds keyed values", "give them as takes over HTTP"))
            continue
        out[name] = [_absolute(value) if kind in PATH_KINDS else value for value in read]
    if faults:
        raise SubmissionRefused(faults)
    return out


def set_values(definition: TaskDefinition, texts: tuple[str, ...]) -> dict[str, Any]:
    """Parameters that are given as NAME=VALUE, each read as its own option would read it. An empty VALUE is "not set", where that can be.

    Raises: SubmissionRefused with every fault.
    """
    entries = {entry["name"]: entry for entry in describe(definition.parameters)["parameters"]}
    out: dict[str, Any] = {}
    faults: list[Fault] = []
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.replace("-", "_")
        if not equals or name not in entries:
            known = ", ".join(sorted(entries))
            faults.append(Fault(f"--set {text}", "is not NAME=VALUE", f"names: {known}"))
            continue
        kind = Kind(entries[name]["kind"])
        try:
            unset = not value and entries[name]["optional"]
            read = None if unset else CONTROLS[kind](entries[name]).convert(value, None, None)
        except click.BadParameter as error:
            faults.append(Fault(f"--set {text}", error.message, entries[name]["help"]))
            continue
        out[name] = _absolute(read) if kind in PATH_KINDS and read is not None else read
    if faults:
        raise SubmissionRefused(faults)
    return out


def _keys(texts: tuple[str, ...]) -> list[dict[str, Any]]:
    keys: list[dict[str, Any]] = []
    faults: list[Fault] = []
    for text in texts:
        match = _KEY.fullmatch(text)
        if match is None:
            faults.append(
                Fault(
                    f"--key {text}",
                    "is not FRAME=MATTE",
                    "write --key 1001=matte.1001.exr, or --key hero:1001=… for one of several objects",
                )
            )
            continue
        key: dict[str, Any] = {"frame": int(match["frame"]), "path": _absolute(match["path"])}
        if match["object"]:
            key["object"] = match["object"]
        keys.append(key)
    if faults:
        raise SubmissionRefused(faults)
    return keys


def _weights(text: str) -> str:
    """A model's name as it is, the path of one absolute. Names may have dots: only a file's own suffix makes a path."""
    path = Path(text)
    return _absolute(text) if os.sep in text or path.suffix in _WEIGHTS or path.exists() else text


def _absolute(path: str) -> str:
    return str(Path(os.path.abspath(Path(path).expanduser())))  # noqa: PTH100 - resolve() would follow links before the roots are checked


_WEIGHTS = frozenset({".safetensors", ".onnx", ".pt", ".pth", ".ckpt", ".bin"})
"""Suffixes of weights, those that are refused among them: a refusal should speak of the file."""


def known_tasks() -> list[str]:
    """Names of the installed tasks; none when one of them is broken: help must still come."""
    from pipeline.tasks.registry import tasks

    try:
        return [definition.name for definition in tasks()]
    except PipelineError:
        return []
