"""The bundle: a folder with all that scoring needs, as safetensors and JSON, and a manifest with hashes.

Every file but the manifest is named by its hash and never changes, and the manifest is put in place last: a program
that reads a bundle while another one is written sees the old one or the new one, never a mixture.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pwflow_core.errors import ModelFileError
from pwflow_core.files import put_file

__all__ = ["MANIFEST", "ONNX", "Bundle", "open_bundle", "read_manifest", "write_bundle"]

MANIFEST = "manifest.json"
ONNX = "onnx"
"""Begins the names of parts that are for other programs, and are not read here."""
FORMAT = 1
_READS = 3
"""A file can go while it is read, when a new bundle takes the place of this one."""


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle as it was read.

    Attributes:
        manifest: What it is: format, release, when it was made (UTC), model set, and its files.
        files: The bytes of each file, by its part in scoring.

    """

    manifest: Mapping[str, Any]
    files: Mapping[str, bytes]

    @property
    def model_set_id(self) -> str:
        """Id of the clusters, weights and flows that it scores with."""
        return str(self.manifest["model_set_id"])

    @property
    def document(self) -> dict[str, Any]:
        """The rules of scoring."""
        found: dict[str, Any] = json.loads(self.files["rules"])
        return found


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a bundle: it changes whenever anything in the bundle does.

    Raises:
        ModelFileError: There is no bundle, or it is of another format.

    """
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        version = manifest["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(
            f"Expected a bundle of `pwflow export` in {folder}, but {path} cannot be read ({error}): export it again."
        ) from error
    if version != FORMAT:
        raise ModelFileError(
            f"Expected a bundle of format {FORMAT} in {folder}, got format {version!r}: export it again with this "
            "release of pwflow."
        )
    return manifest


def open_bundle(folder: Path) -> Bundle:
    """Read a bundle and check its hashes.

    Raises:
        ModelFileError: It is missing, damaged or of another format.

    """
    for _ in range(_READS):
        manifest = read_manifest(folder)
        try:
            read = {part: named for part, named in manifest["files"].items() if not part.startswith(ONNX)}
            return Bundle(manifest, {part: _read(folder, named) for part, named in read.items()})
        except FileNotFoundError as error:
            gone = error
    raise ModelFileError(f"The bundle in {folder} lacks {gone.filename}: export it again.")


def write_bundle(folder: Path, about: Mapping[str, Any], files: Mapping[str, tuple[str, bytes]]) -> dict[str, Any]:
    """Write a bundle in place of the one before, and return its manifest; other files in the folder stay.

    Arguments:
        folder: Where; it is made if it is not there.
        about: What the manifest says beside the files.
        files: Name and bytes of each file, by its part in scoring; the hash is put into the name.

    """
    folder.mkdir(parents=True, exist_ok=True)
    former, named = _files_of(folder), {}
    for part, (name, data) in files.items():
        digest, path = hashlib.sha256(data).hexdigest(), Path(name)
        named[part] = {"path": str(path.with_name(f"{path.stem}-{digest[:16]}{path.suffix}")), "sha256": digest}
        put_file(folder / named[part]["path"], data)
    manifest = {"format": FORMAT, **about, "files": named}
    put_file(folder / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False).encode())
    for name in former - {entry["path"] for entry in named.values()}:
        (folder / name).unlink(missing_ok=True)
    return manifest


def _files_of(folder: Path) -> set[str]:
    """Return the names of the files of the bundle in a folder; none where there is none that can be read."""
    try:
        names = {str(named["path"]) for named in read_manifest(folder)["files"].values()}
    except (ModelFileError, KeyError, TypeError, AttributeError):
        return set()
    return {name for name in names if Path(name).name == name}


def _read(folder: Path, named: Mapping[str, str]) -> bytes:
    path = folder / named["path"]
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != named["sha256"]:
        raise ModelFileError(f"The file {path} is damaged: its SHA-256 is not that of the manifest. Export it again.")
    return data
