"""Model files: safetensors plus one JSON entry, with a digest, deterministic byte by byte.

What belongs here: turning named arrays and a JSON document into bytes and back. What the arrays mean belongs
to the class that is saved.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from pwflow_core.errors import ModelFileError

FORMAT_VERSION = 1
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
    return bytes(save(arrays, {_ENTRY: _json(entry)}))


def unpack(data: bytes, kind: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read what `pack` wrote.

    Returns:
        The arrays by name, and the JSON document.

    Raises:
        ModelFileError: The bytes are damaged, cut short, of another kind or of a newer format.

    """
    try:
        arrays = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        entry = json.loads(header["__metadata__"][_ENTRY])
        digest = entry.pop("digest")
        version, found, document = entry["format_version"], entry["kind"], entry["document"]
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
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


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(arrays: Mapping[str, NDArray[Any]], entry: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(_json(entry).encode())
    for name in sorted(arrays):
        digest.update(f"{name}:{arrays[name].dtype.str}:{arrays[name].shape}".encode())
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()
