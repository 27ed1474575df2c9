"""The one schema: a task's parameters are a pydantic model, and every face draws its panel from `describe()`.

A declaration is one field with `parameter(...)`. Everything a face needs stands in it: kind, label, help, group, unit,
default, bounds. A declaration that contradicts itself is refused when the module is imported, never when an artist
opens the panel. No code and no host's property names travel in a form.
"""

from __future__ import annotations

import hashlib
import json
import math
import types
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from pipeline.curves import Curve, KeyedCurve, read_curve, value_range
from pipeline.errors import Fault, ParameterError

FORM_SCHEMA = "platewright.form/1"


class Kind(StrEnum):
    """What a control lets a person give. A face holds one table from kind to control."""

    INT = "int"
    FLOAT = "float"
    BOOL = "bool"
    TEXT = "text"
    CHOICE = "choice"
    SEED = "seed"
    COLOR = "color"
    POINT = "point"
    POINTS = "points"
    BOX = "box"
    MASK = "mask"
    REFERENCE = "reference"
    PLATE = "plate"
    AUDIO = "audio"
    STROKE = "stroke"
    MODEL = "model"


Point = tuple[float, float]
"""x, y in pixels of the plate's display window, y down, from its top left corner."""
Box = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max, as a point's coordinates."""
Color = tuple[float, float, float]
"""R, G, B, scene-linear in the plate's colour space."""
Stroke = tuple[tuple[int, float, float], ...]
"""(frame, x, y) of each sample along one stroke."""
MOST_TEXT = 4096
"""Characters of a text or a path."""

_TYPES: dict[Kind, Any] = {
    Kind.INT: int,
    Kind.FLOAT: float,
    Kind.BOOL: bool,
    Kind.TEXT: str,
    Kind.SEED: int,
    Kind.COLOR: Color,
    Kind.POINT: Point,
    Kind.POINTS: tuple[Point, ...],
    Kind.BOX: Box,
    Kind.MASK: str,
    Kind.REFERENCE: str,
    Kind.PLATE: str,
    Kind.AUDIO: str,
    Kind.STROKE: tuple[Stroke, ...],
    Kind.MODEL: str,
}
"""The Python type behind each kind; a choice is a `Literal` of texts."""
_KIND_OF_TYPE = {int: Kind.INT, float: Kind.FLOAT, bool: Kind.BOOL, str: Kind.TEXT}
_NUMBERS = (Kind.INT, Kind.FLOAT, Kind.SEED)
PATH_KINDS = frozenset({Kind.MASK, Kind.REFERENCE, Kind.PLATE, Kind.AUDIO, Kind.MODEL})
"""Kinds whose value is a path, held to the allow-listed roots like any other path of a submission."""


def parameter(
    default: Any = ...,
    *,
    help: str,
    kind: Kind | None = None,
    label: str = "",
    group: str = "",
    unit: str = "",
    min: float | None = None,
    max: float | None = None,
    visible_in: tuple[str, ...] = (),
    keyable: bool = True,
    affects: Literal["fit", "frames", "report"] = "fit",
) -> Any:
    """Declare one parameter.

    `kind` is derived from the type where that says enough. `visible_in` names the faces that show it
    (`nuke`, `blender`, `resolve`, `web`, `cli`); empty means all. A default of None means "not set", and nothing else does.
    A float may be keyed over frames or driven by sound, unless `keyable` says that it holds for the whole shot.
    `affects`: the fit and so everything after it; the frames alone, as whatever may be keyed does; or neither, only what lies
    beside them. Takes that differ in nothing that affects the fit share it, and a frame that nothing affects is not made again.
    """
    extra: JsonDict = {
        "kind": kind and str(kind),
        "group": group,
        "unit": unit,
        "visible_in": list(visible_in),
        "keyable": keyable,
        "affects": affects,
    }
    return Field(default, title=label or None, description=help, ge=min, le=max, json_schema_extra=extra)


class Parameters(BaseModel):
    """Base of every task's parameters: frozen, unknown names refused, declarations checked at import."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        for name, field in cls.model_fields.items():
            _check_declaration(cls, name, field)


def _core_type(field: FieldInfo) -> tuple[Any, bool]:
    """The field's type without `| None`, and whether None was allowed."""
    annotation = field.annotation
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [a for a in get_args(annotation) if a is not type(None)]
        if len(inner) == 1:
            return inner[0], True
    return annotation, False


def _extra(field: FieldInfo) -> Mapping[str, Any]:
    extra = field.json_schema_extra
    return extra if isinstance(extra, dict) else {}


def _kind(field: FieldInfo) -> Kind | None:
    core, _ = _core_type(field)
    if given := _extra(field).get("kind"):
        return Kind(given)
    if get_origin(core) is Literal:
        return Kind.CHOICE
    return _KIND_OF_TYPE.get(core)


def _bounds(field: FieldInfo) -> tuple[float | None, float | None]:
    low = next((m.ge for m in field.metadata if isinstance(m, annotated_types.Ge)), None)
    high = next((m.le for m in field.metadata if isinstance(m, annotated_types.Le)), None)
    return low, high  # type: ignore[return-value]  # annotated-types declares a protocol, numbers are what we put in


def _check_declaration(model: type[Parameters], name: str, field: FieldInfo) -> None:
    """Refuse a field that no face could draw, or that refuses its own default."""

    def refuse(why: str, hint: str = "") -> None:
        raise ParameterError(f"{model.__name__}.{name}: {why}", hint)

    core, optional = _core_type(field)
    kind = _kind(field)
    if kind is None:
        refuse(
            f"no kind of control for the type {core}",
            "give kind=, or use a type of the table in pipeline/parameters.py",
        )
        return
    if not (field.description or "").strip():
        refuse("has no help", "say in one sentence what it does to the picture")
    if kind is Kind.CHOICE:
        choices = get_args(core) if get_origin(core) is Literal else ()
        if not choices or not all(isinstance(c, str) and c for c in choices):
            refuse("a choice needs a Literal of texts")
    elif core != _TYPES[kind]:
        refuse(f"kind {kind} needs the type {_TYPES[kind]}, not {core}")
    if kind is Kind.SEED and not optional:
        refuse("a seed must allow None, which means: draw one and record it")
    low, high = _bounds(field)
    if (low is not None or high is not None) and kind not in _NUMBERS:
        refuse(f"bounds on a {kind}")
    if low is not None and high is not None and low > high:
        refuse(f"min {low} is above max {high}")
    if any(b is not None and not math.isfinite(b) for b in (low, high)):
        refuse("bounds must be finite")
    if field.default is PydanticUndefined:
        if optional:
            refuse("is required and may be None at once", "give it the default None")
        return
    if field.default is None:
        if not optional:
            refuse("has the default None but doesn't allow None")
        return
    declared: Any = Annotated[core, *field.metadata] if field.metadata else core
    try:
        TypeAdapter(declared).validate_python(field.default, strict=kind in (Kind.INT, Kind.BOOL, Kind.TEXT))
    except ValidationError as error:
        refuse(f"refuses its own default {field.default!r}: {error.errors()[0]['msg']}")


def describe(model: type[Parameters]) -> dict[str, Any]:
    """The form of a task: `{"schema", "form_version", "parameters": [{name, kind, label, …}]}`, plain JSON.

    `form_version` changes exactly when the form does, so that a face can tell that its panel is old.
    """
    entries: list[dict[str, Any]] = []
    for name, field in model.model_fields.items():
        core, optional = _core_type(field)
        kind = _kind(field)
        assert kind is not None  # checked when the model was declared
        extra = _extra(field)
        low, high = _bounds(field)
        entry: dict[str, Any] = {
            "name": name,
            "kind": str(kind),
            "label": field.title or name.replace("_", " ").capitalize(),
            "help": field.description or "",
            "group": extra.get("group", ""),
            "unit": extra.get("unit", ""),
            "required": field.is_required(),
            "optional": optional,
            "visible_in": list(extra.get("visible_in", ())),
        }
        if not field.is_required():
            entry["default"] = field.default
        if kind is Kind.FLOAT:
            entry["keyable"] = _keyable(field)
        if kind is Kind.CHOICE:
            entry["choices"] = list(get_args(core))
        if low is not None:
            entry["min"] = low
        if high is not None:
            entry["max"] = high
        entries.append(entry)
    plain = json.loads(json.dumps(entries))  # tuples become lists, as every face will see them
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]
    return {"schema": FORM_SCHEMA, "form_version": digest, "parameters": plain}


def validate(model: type[Parameters], values: Mapping[str, Any]) -> tuple[Parameters | None, list[Fault]]:
    """Parameters from what travelled (only what was changed), or every fault in it at once."""
    faults = [
        Fault(f"parameter {name}", f"is {len(value)} characters long", f"allowed: up to {MOST_TEXT}")
        for name, value in values.items()
        if isinstance(value, str) and len(value) > MOST_TEXT
    ]
    try:
        parameters = model.model_validate(dict(values))
    except ValidationError as error:
        faults += [_fault(model, values, dict(e)) for e in error.errors()]
    return (None if faults else parameters), faults


def validate_keyed(
    model: type[Parameters], values: Mapping[str, Any]
) -> tuple[Parameters | None, dict[str, Curve], list[Fault]]:
    """As `validate`, where a float may come as a curve: the parameters hold a value of it, the curves go beside them.

    A keyed curve stands for its value on its first key, one of sound for its `low`.
    """
    plain, curves, faults = dict(values), dict[str, Curve](), list[Fault]()
    for name, value in values.items():
        field = model.model_fields.get(name)
        if field is None or not isinstance(value, Mapping):
            continue
        try:
            curve = _curve(field, value)
        except ParameterError as error:
            faults.append(Fault(f"parameter {name}", error.message, error.hint))
            del plain[name]
            continue
        curves[name] = curve
        plain[name] = curve.keys[min(curve.keys)] if isinstance(curve, KeyedCurve) else curve.low
    parameters, more = validate(model, plain)
    return parameters, curves, faults + more


def _curve(field: FieldInfo, value: Mapping[str, Any]) -> Curve:
    """Raises: ParameterError (not a number that can be keyed, values out of bounds)."""
    if not _keyable(field):
        raise ParameterError("can't be keyed over frames", "give one value for the whole shot")
    curve = read_curve(value)
    low, high = _bounds(field)
    least, most = value_range(curve)
    if (low is not None and least < low) or (high is not None and most > high):
        raise ParameterError(
            f"is keyed from {least:g} to {most:g}",
            f"allowed: {'any' if low is None else f'{low:g}'} to {'any' if high is None else f'{high:g}'}",
        )
    return curve


def path_parameters(model: type[Parameters]) -> frozenset[str]:
    """The parameters whose value is a path."""
    return frozenset(name for name, field in model.model_fields.items() if _kind(field) in PATH_KINDS)


def beside_frames(model: type[Parameters]) -> frozenset[str]:
    """The parameters that change no frame."""
    return frozenset(name for name, field in model.model_fields.items() if _extra(field).get("affects") == "report")


def for_fit(parameters: Parameters) -> Parameters:
    """The parameters as a fit sees them: those that it may not go by at their defaults, so that it can't."""
    hidden = {
        name: field.get_default(call_default_factory=True)
        for name, field in type(parameters).model_fields.items()
        if not field.is_required() and (_extra(field).get("affects", "fit") != "fit" or _keyable(field))
    }
    return parameters.model_copy(update=hidden)


def _keyable(field: FieldInfo) -> bool:
    return _kind(field) is Kind.FLOAT and bool(_extra(field).get("keyable", True))


def _fault(model: type[Parameters], values: Mapping[str, Any], error: Mapping[str, Any]) -> Fault:
    name = str(error["loc"][0]) if error["loc"] else "parameters"
    known = ", ".join(model.model_fields)
    if error["type"] == "extra_forbidden":
        return Fault(f"parameter {name}", "this task has no such parameter", f"it has: {known}")
    if error["type"] == "missing":
        return Fault(f"parameter {name}", "is required", model.model_fields[name].description or "")
    field = model.model_fields.get(name)
    hint = ""
    if field is not None:
        low, high = _bounds(field)
        core, _ = _core_type(field)
        if get_origin(core) is Literal:
            hint = "choose one of: " + ", ".join(get_args(core))
        elif low is not None and high is not None:
            hint = f"allowed: {low} to {high}"
        else:
            hint = field.description or ""
    given = repr(values.get(name))
    return Fault(f"parameter {name}", f"{given[:80]}: {error['msg']}", hint)
