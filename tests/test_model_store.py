"""The model store: what is stored once is found by its content, or is said to be missing or damaged."""

import hashlib
import os
import signal
import subprocess
import sys
import uuid

import pytest

from pwflow_core.errors import ModelFileError
from pwflow_core.model_store import ModelStore
from tests.processes import REPOSITORY

DATA = b"a flow" * 1000


@pytest.fixture(params=["folder", "file://", "memory://"])
def store(request, tmp_path) -> ModelStore:
    where = {"folder": str(tmp_path / "models"), "file://": f"file://{tmp_path}/models"}
    return ModelStore(where.get(request.param, f"memory://{uuid.uuid4().hex}/models"))


def test_what_is_stored_is_named_by_its_hash_and_comes_back(store):
    version = store.put(DATA)
    assert version == hashlib.sha256(DATA).hexdigest()
    assert store.get(version) == DATA
    assert store.put(DATA) == version
    assert store.put(b"another") != version
    assert store.get(version) == DATA


def test_a_missing_file_is_named_with_what_to_do(store):
    with pytest.raises(ModelFileError, match=f"{'0' * 64}.*missing.*materialize its partition of cluster_flow"):
        store.get("0" * 64)


def test_one_flipped_bit_is_detected_and_storing_again_mends_it(store):
    version = store.put(DATA)
    filesystem, path = store._filesystem, store._path(version)
    filesystem.pipe_file(path, bytes([DATA[0] ^ 1]) + DATA[1:])
    with pytest.raises(ModelFileError, match="damaged: expected SHA-256"):
        store.get(version)
    store.put(DATA)
    assert store.get(version) == DATA


@pytest.mark.parametrize("version", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_only_a_hash_is_a_name(store, version):
    with pytest.raises(ModelFileError, match="64 hexadecimal digits"):
        store.get(version)


def test_a_file_can_be_read_by_whoever_shares_the_folder(tmp_path):
    before = os.umask(0o022)
    try:
        version = ModelStore(str(tmp_path)).put(DATA)
    finally:
        os.umask(before)
    assert (tmp_path / f"{version}.safetensors").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("at", ["fsync", "replace"])
def test_a_process_killed_while_it_writes_leaves_no_file_under_the_name(tmp_path, at):
    code = f"""
import os, pathlib, signal, sys
from pwflow_core.model_store import ModelStore
die = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
os.fsync = die if {at!r} == "fsync" else os.fsync
pathlib.Path.replace = die
ModelStore({str(tmp_path)!r}).put({DATA!r})
"""
    killed = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    store = ModelStore(str(tmp_path))
    assert not list(tmp_path.glob("*.safetensors"))
    assert store.get(store.put(DATA)) == DATA
