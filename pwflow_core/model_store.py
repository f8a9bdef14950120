"""The model store: immutable files named by their SHA-256, in a folder or anything else that fsspec opens."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import fsspec

from pwflow_core.errors import ModelFileError
from pwflow_core.storage import remove_leftovers, replace_file

__all__ = ["ModelStore"]

_SUFFIX = ".safetensors"
_REMEDY = (
    "Restore it from a backup, or train it again: materialize its partition of cluster_flow, or cluster_model if it "
    "holds the regimes."
)
_HASH = re.compile(r"[0-9a-f]{64}")


class ModelStore:
    """Keeps model files by content: what is stored once is never changed.

    Attributes:
        url: Folder, or URL that fsspec opens (`s3://bucket/models`).
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._filesystem, self._root = fsspec.core.url_to_fs(url)

    def put(self, data: bytes) -> str:
        """Store a file and return its SHA-256; storing it again repairs a damaged file."""
        version = hashlib.sha256(data).hexdigest()
        target = self._path(version)
        if self._filesystem.exists(target) and self._filesystem.cat_file(target) == data:
            self.remove_leftovers()  # whoever stored it may have been killed right behind that
            return version
        self._filesystem.makedirs(self._root, exist_ok=True)
        if self._is_local:
            replace_file(Path(target), data)
        else:
            self._filesystem.pipe_file(target, data)
        return version

    def get(self, version: str) -> bytes:
        """Return the bytes of a file after checking them against its name.

        Raises:
            ModelFileError: The file is missing, or its content is not what its name says.
        """
        target = self._path(version)
        try:
            data: bytes = self._filesystem.cat_file(target)
        except FileNotFoundError:
            raise ModelFileError(
                f"Expected the model file {self._shown(version)}, but it is missing. {_REMEDY}"
            ) from None
        found = hashlib.sha256(data).hexdigest()
        if found != version:
            raise ModelFileError(
                f"The model file {self._shown(version)} is damaged: expected SHA-256 {version[:12]}…, got "
                f"{found[:12]}…. {_REMEDY}"
            )
        return data

    def delete(self, version: str) -> bool:
        """Delete a file, and say whether it was there."""
        target = self._path(version)
        try:
            self._filesystem.rm_file(target)
        except FileNotFoundError:
            return False
        return True

    def remove_leftovers(self) -> None:
        """Remove what killed processes left of files that they were storing."""
        if self._is_local and self._filesystem.exists(self._root):
            remove_leftovers(Path(self._root))

    @property
    def _is_local(self) -> bool:
        return "file" in self._filesystem.protocol

    def _shown(self, version: str) -> str:
        return f"{self.url.rstrip('/')}/{version}{_SUFFIX}"

    def _path(self, version: str) -> str:
        if not _HASH.fullmatch(version):
            raise ModelFileError(f"Expected a SHA-256 of 64 hexadecimal digits, got {version[:80]!r}.")
        return f"{self._root}/{version}{_SUFFIX}"
