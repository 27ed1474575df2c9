"""The text that a Nuke Roto node keeps its curves in: nested lists in braces, floats as `x` and eight hexadecimal digits.

Grammar: Foundry's "Roto serialisation format" (NDK developer guide), and what real files hold.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence

from pipeline.shapes.values import ShapeError

Tree = str | list["Tree"]

MOST_DEPTH = 60
MOST_TOKENS = 12_000_000
_TOKEN = re.compile(r"[{}]|\"(?:[^\"\\]|\\.)*\"|[^\s{}\"]+")
_HEX = re.compile(r"x[0-9a-fA-F]{1,8}")


def number(value: float) -> str:
    """A float as Nuke writes it: 0 and 1 bare, else the IEEE-754 single in hexadecimal."""
    single = struct.unpack("<f", struct.pack("<f", value))[0]
    if single in (0.0, 1.0):
        return str(int(single))
    return f"x{struct.unpack('<I', struct.pack('<f', single))[0]:08x}"


def value_of(token: Tree) -> float:
    """The number that a token stands for. Raises: ShapeError."""
    if isinstance(token, str):
        if _HEX.fullmatch(token):
            found = struct.unpack(">f", bytes.fromhex(token[1:].rjust(8, "0")))[0]
        else:
            try:
                found = float(token)
            except ValueError:
                found = math.nan
        if math.isfinite(found):
            return float(found)
    raise ShapeError(f"{str(token)[:40]!r} stands where a number is wanted", "save the Roto node again")


def curve(keys: Sequence[tuple[float, float]]) -> str:
    """An animation curve through (frame, value) that runs straight between keys: `{{frame value slope 1 slope 1} …}`."""
    if len(keys) == 1:
        return f"{{{{{number(keys[0][0])} {number(keys[0][1])}}}}}"
    parts = []
    for i, (frame, value) in enumerate(keys):
        left = (value - keys[i - 1][1]) / (frame - keys[i - 1][0]) if i else 0.0
        right = (keys[i + 1][1] - value) / (keys[i + 1][0] - frame) if i + 1 < len(keys) else 0.0
        parts.append(f"{{{number(frame)} {number(value)} {number(left)} 1 {number(right)} 1}}")
    return "{" + " ".join(parts) + "}"


def tree(text: str, start: int) -> tuple[list[Tree], int]:
    """The list whose opening brace is at `start`, and where it ends. Raises: ShapeError."""
    stack: list[list[Tree]] = []
    for count, match in enumerate(_TOKEN.finditer(text, start)):
        part = match.group()
        if count > MOST_TOKENS:
            raise ShapeError("the Roto node holds too many numbers", "save it with fewer keys")
        if part == "{":
            stack.append([])
            if len(stack) > MOST_DEPTH:
                raise ShapeError(f"the Roto node's lists are nested deeper than {MOST_DEPTH}", "save it again")
        elif part == "}":
            if not stack:
                break
            done = stack.pop()
            if not stack:
                return done, match.end()
            stack[-1].append(done)
        elif not stack:
            break
        else:
            stack[-1].append(part)
    raise ShapeError("a list of the Roto node doesn't end", "the file was cut off: save it again")


def keys_of(token: Tree) -> list[tuple[float | None, float, float | None, float | None]]:
    """(frame, value, left slope, right slope) of each key of an animation curve; frame None: it is the same always.

    Forms: `value`; `{=expression value}`, of which the value counts; lists of `{frame value left mode right mode}`.
    """
    if isinstance(token, str):
        return [(None, value_of(token), None, None)]
    if not token:
        return [(None, 0.0, None, None)]
    if isinstance(token[0], str):
        if token[0].startswith("="):
            return [(None, value_of(token[-1]), None, None)]
        raise ShapeError(f"{str(token)[:60]!r} is no animation curve", "save the Roto node again")
    found: list[tuple[float | None, float, float | None, float | None]] = []
    for key in token:
        if isinstance(key, str) or len(key) < 2:
            raise ShapeError(f"{str(key)[:60]!r} is no key", "bake the animation and save the Roto node again")
        if key[0] == "x":
            raise ShapeError("a curve is stored as a run of repeated keys", "bake the animation and save it again")
        slopes = (value_of(key[2]), value_of(key[4])) if len(key) >= 5 else (None, None)
        found.append((value_of(key[0]), value_of(key[1]), *slopes))
    return found
