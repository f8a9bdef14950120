"""Model files: safetensors plus one JSON entry, with a digest, deterministic byte by byte.

What belongs here: turning named arrays and a JSON document into bytes and back. What the arrays mean belongs
to the class that is saved. Reading takes NumPy alone: models score where nothing else is installed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pwflow_core.errors import ModelFileError

FORMAT_VERSION = 1
_DTYPES = {"U64": "<u8", "I64": "<i8", "F64": "<f8", "F32": "<f4", "I32": "<i4", "U8": "|u1", "BOOL": "|b1"}
"""Kinds of numbers in the safetensors format, in the order in which arrays lie in a file."""
_ENTRY = "pwflow"  # one entry only: safetensors does not keep the order of several


def pack(kind: str, tensors: Mapping[str, NDArray[Any]], document: Mapping[str, Any]) -> bytes:
    """Write arrays and a JSON document as one safetensors file.

    Arguments:
        kind: What the file holds, e.g. `cluster_flow`; checked on reading.
        tensors: Arrays by name.
        document: Anything JSON can hold exactly (finite numbers, text, lists, dictionaries).

    Returns:
        The same bytes for the same input, on every run.

    """
    arrays = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    entry = {"kind": kind, "format_version": FORMAT_VERSION, "document": dict(document)}
    entry["digest"] = _digest(arrays, entry)
    return write_safetensors(arrays, {_ENTRY: _json(entry)})


def unpack(data: bytes, kind: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read what `pack` wrote.

    Returns:
        The arrays by name, and the JSON document.

    Raises:
        ModelFileError: The bytes are damaged, cut short, of another kind or of a newer format.

    """
    try:
        arrays, metadata = read_safetensors(data)
        entry = json.loads(metadata[_ENTRY])
        digest = entry.pop("digest")
        version, found, document = entry["format_version"], entry["kind"], entry["document"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelFileError(
            f"Expected a {kind} file of pwflow, got {len(data)} bytes that cannot be read as one ({error}); "
            "restore the file from the model store or train it again."
        ) from error
    if version != FORMAT_VERSION or found != kind:
        raise ModelFileError(
            f"Expected a {kind} file of format {FORMAT_VERSION}, got {found!r} of format {version!r}; "
            "read it with the release of pwflow that wrote it."
        )
    if digest != _digest(arrays, entry):
        raise ModelFileError(
            f"The {kind} file is damaged: its contents do not match its digest; "
            "restore the file from the model store or train it again."
        )
    return arrays, document


def write_safetensors(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """Write what `read_safetensors` reads; the same bytes as the library `safetensors`, which takes more than NumPy."""
    kinds = {name: list(_DTYPES.values()).index(array.dtype.str) for name, array in arrays.items()}
    names = sorted(arrays, key=lambda name: (kinds[name], name))
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name in names:
        first, end = end, end + arrays[name].nbytes
        kind = list(_DTYPES)[kinds[name]]
        header[name] = {"dtype": kind, "shape": list(arrays[name].shape), "data_offsets": [first, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *(arrays[name].tobytes() for name in names)])


def read_safetensors(data: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read the safetensors format: the length of a JSON header in 8 bytes, the header, and the arrays one by one.

    Returns:
        The arrays by name, and the texts that the header holds beside them.

    Raises:
        ValueError: The bytes are not of this format, or are cut short.

    """
    start = 8 + int.from_bytes(data[:8], "little")
    if not 8 < start <= len(data):
        raise ValueError(f"the header should end at byte {start}")
    header = json.loads(data[8:start])
    metadata = header.pop("__metadata__", {})
    arrays, end = {}, 0
    for name, described in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        first, last = described["data_offsets"]
        dtype, shape = np.dtype(_DTYPES[described["dtype"]]), described["shape"]
        if first != end or last - first != dtype.itemsize * math.prod(shape) or min(shape, default=0) < 0:
            raise ValueError(f"array {name!r} should not lie at bytes {first} to {last}")
        arrays[name] = np.frombuffer(data[start + first : start + last], dtype).reshape(shape).copy()
        end = last
    if start + end != len(data):
        raise ValueError(f"{start + end} bytes were expected")
    return arrays, metadata


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(arrays: Mapping[str, NDArray[Any]], entry: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(_json(entry).encode())
    for name in sorted(arrays):
        digest.update(f"{name}:{arrays[name].dtype.str}:{arrays[name].shape}".encode())
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()
