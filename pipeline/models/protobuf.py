"""Just enough of the protocol buffer wire format to walk a message's fields without a schema or a copy.

A message is a row of fields, each a tag (number · 8 + wire type, as a varint) and a value: 0 a varint, 1 eight bytes, 2 a
length and that many bytes, 5 four bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

_LONGEST_VARINT = 10


class WireError(ValueError):
    """These bytes are no message."""


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(number, value) of each field in turn: a varint as int, bytes as a view. Fixed-width fields come as views too.

    Raises: WireError (a field that reaches past the end, or of a wire type that doesn't exist).
    """
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise WireError("a field has the number 0")
        if wire == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == 2:
            length, at = _varint(message, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise WireError(f"field {number} has the wire type {wire}")
        if at + length > len(message):
            raise WireError(f"field {number} reaches past the end")
        yield number, message[at : at + length]
        at += length


def text(value: int | memoryview) -> str:
    """A field's bytes as UTF-8. Raises: WireError."""
    if isinstance(value, int):
        raise WireError("a number stands where a text belongs")
    try:
        return bytes(value).decode()
    except UnicodeDecodeError as error:
        raise WireError("a text is not UTF-8") from error


def message(value: int | memoryview) -> memoryview:
    """A field's bytes as a message. Raises: WireError."""
    if isinstance(value, int):
        raise WireError("a number stands where a message belongs")
    return value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    for _ in range(_LONGEST_VARINT):
        if at >= len(data):
            raise WireError("it is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise WireError("a number has more than ten bytes")
