"""TFRecord files and the examples in them, without TensorFlow."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ...errors import InputError
from .crc32c import masked_crc32c
from .protobuf import BYTES, VARINT, Field, fields, integers


def read_records(path: Path) -> Iterator[tuple[int, bytes]]:
    """Offset and content of each record: length (8 bytes), its checksum (4), content, checksum (4).

    Raises:
        InputError: the file is cut off, or a checksum differs.
    """
    with path.open("rb") as file:
        number = 0
        while header := file.read(12):
            length = int.from_bytes(header[:8], "little")
            if len(header) < 12 or masked_crc32c(header[:8]) != header[8:]:
                raise _damaged(path, number, "its length is cut off or has another checksum")
            start = file.tell()
            content = file.read(length)
            checksum = file.read(4)
            if len(content) < length or len(checksum) < 4:
                raise _damaged(path, number, "the file ends in it")
            if masked_crc32c(content) != checksum:
                raise _damaged(path, number, "its checksum differs")
            yield start, content
            number += 1


def _damaged(path: Path, number: int, reason: str) -> InputError:
    return InputError(f"Record {number} of {path} is damaged ({reason}): get the file again.")


class Feature(NamedTuple):
    """One feature of an example: a string, as a place in the record, or integers."""

    start: int = 0
    size: int = 0
    integers: tuple[int, ...] = ()


def parse_example(content: bytes) -> dict[str, Feature]:
    """The features of a serialised `tf.train.Example`, without those that are floats.

    Example = {1: Features}, Features = {1: repeated {1: name, 2: Feature}}, Feature =
    {1: {1: repeated bytes}} or {3: {1: repeated integer, packed or not}}.

    Raises:
        ValueError: the content is something else, or cut off.
    """
    features = {}
    for all_features in _wanted(content, 0, len(content), 1):
        for entry in _wanted(content, all_features.start, all_features.stop, 1):
            (key,) = _wanted(content, entry.start, entry.stop, 1)
            (value,) = _wanted(content, entry.start, entry.stop, 2)
            name = content[key.start : key.stop].decode("utf-8")
            features[name] = _feature(content, value.start, value.stop)
    return features


def _feature(content: bytes, start: int, stop: int) -> Feature:
    for first in _wanted(content, start, stop, 1):
        for place in _wanted(content, first.start, first.stop, 1):
            return Feature(start=place.start, size=place.stop - place.start)
        return Feature()
    return Feature(
        integers=tuple(
            value
            for third in _wanted(content, start, stop, 3)
            for field in _wanted(content, third.start, third.stop, 1)
            if field.type in (VARINT, BYTES)
            for value in integers(content, field)
        )
    )


def _wanted(content: bytes, start: int, stop: int, number: int) -> Iterator[Field]:
    return (field for field in fields(content, start, stop) if field.number == number)
