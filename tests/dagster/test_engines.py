"""The instances of `docs/server` for Docker and Kubernetes, with the launchers of Dagster that they name.

What a launcher sends is taken by a small server in the place of Docker or Kubernetes, and the command in it is executed
here. `make test-engines` has the packages that this needs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.origin import RepositoryPythonOrigin
from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from pwflow_dagster.definitions import build
from pwflow_dagster.launching import Launcher
from pwflow_dagster.names import DELIVER_NOTICES
from tests.dagster.conftest import DagsterPlant, small_config, write_config
from tests.processes import clean_environment, python_path

SERVER = Path(__file__).parents[2] / "docs" / "server"
MODULE = "pwflow_dagster.definitions"
POSTGRES = {f"PWFLOW_POSTGRES_{name}": "x" for name in ("HOST", "PORT", "USER", "PASSWORD", "DB")}


@pytest.mark.quick
@pytest.mark.parametrize("name", ["dagster-docker.yaml", "dagster-kubernetes.yaml"])
def test_all_instances_keep_what_they_keep_in_the_same_way(name):
    one, other = (yaml.safe_load((SERVER / file).read_text()) for file in ("dagster.yaml", name))
    assert one == {key: value for key, value in other.items() if key in one}
    assert set(other) - set(one) == {"run_launcher", "concurrency", "run_monitoring"}


@contextmanager
def listening(answer: Callable[[str, str, dict], dict]) -> Iterator[str]:
    """Answer requests with JSON, at the URL that is returned."""

    class Taking(BaseHTTPRequestHandler):
        def _take(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            said = json.dumps(answer(self.command, self.path, json.loads(body or b"{}"))).encode()
            self.send_response(201 if self.command == "POST" else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_POST = _take  # noqa: N815 - their names

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Taking) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def made(tmp_path) -> DagsterPlant:
    plant = DagsterPlant(tmp_path, small_config(tmp_path))
    write_config(plant)
    (tmp_path / "dagster").mkdir()
    return plant


def instance_of(made: DagsterPlant, name: str, **launcher: object) -> dg.DagsterInstance:
    """Return the instance of a file of `docs/server`, with what Dagster keeps in a folder of the test."""
    settings = yaml.safe_load((SERVER / name).read_text())
    del settings["storage"]
    settings["run_launcher"]["config"] |= launcher
    (made.folder / "dagster" / "dagster.yaml").write_text(yaml.safe_dump(settings))
    return dg.DagsterInstance.from_config(str(made.folder / "dagster"))


def launch(made: DagsterPlant, instance: dg.DagsterInstance) -> dg.DagsterRun:
    """Put a run into the queue, and launch it as the daemon does."""
    target = LoadableTargetOrigin(executable_path=sys.executable, module_name=MODULE)
    remote = RemoteRepositoryOrigin(ManagedGrpcPythonEnvCodeLocationOrigin(target), "__repository__")
    local = RepositoryPythonOrigin(
        sys.executable,
        ModuleCodePointer(MODULE, "defs", str(made.folder)),
        container_image=None,
        entry_point=["dagster"],
        container_context=None,
    )
    job = build(made.config).resolve_job_def(DELIVER_NOTICES)
    run_id = Launcher(instance, remote, local).start(job, tags=None, run_config=None, partition_key=None)
    return instance.launch_run(run_id, None)


def execute(made: DagsterPlant, run: dg.DagsterRun, words: list[str]) -> None:
    """Execute the command that a container was to execute, with nothing but what it finds by its environment."""
    assert words[:3] == ["dagster", "api", "execute_run"]
    environment = clean_environment() | {
        "PWFLOW_CONFIG": str(made.folder / "pwflow.toml"),
        "DAGSTER_HOME": str(made.folder / "dagster"),
        "PYTHONPATH": python_path(),
        "PYTHONWARNINGS": "ignore",
    }
    done = subprocess.run([sys.executable, "-m", *words], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with dg.DagsterInstance.from_config(str(made.folder / "dagster")) as instance:
        assert instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.SUCCESS, done.stdout


def test_kubernetes_is_given_a_job_as_its_schema_wants_it(made):
    pytest.importorskip("dagster_k8s")
    validation = pytest.importorskip("kubernetes_validate")
    asked: list[tuple[str, str, dict]] = []

    def take(method: str, path: str, body: dict) -> dict:
        asked.append((method, path, body))
        return body

    with listening(take) as address:
        user, cluster = {"name": "t", "user": {}}, {"name": "t", "cluster": {"server": f"http://{address}"}}
        context = {"name": "t", "context": {"user": "t", "cluster": "t", "namespace": "pwflow"}}
        config = {"users": [user], "clusters": [cluster], "contexts": [context], "current-context": "t"}
        (made.folder / "kubeconfig").write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **config}))
        outside = {"load_incluster_config": False, "kubeconfig_file": str(made.folder / "kubeconfig")}
        with instance_of(made, "dagster-kubernetes.yaml", **outside) as instance:
            run = launch(made, instance)
    [(method, path, job)] = asked
    assert (method, path.split("?")[0]) == ("POST", "/apis/batch/v1/namespaces/pwflow/jobs")
    job = {"apiVersion": "batch/v1", "kind": "Job"} | job
    for version in validation.utils.all_versions()[-3:]:
        validation.validate(job, version, strict=True)
    pod = job["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["serviceAccountName"] == "pwflow"
    assert {"name": "PWFLOW_CONFIG", "value": "/plant/pwflow.toml"} in container["env"]
    assert {"emptyDir": {"sizeLimit": "20Gi"}, "name": "scratch"} in pod["volumes"]
    mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert set(mounted.values()) <= {volume["name"] for volume in pod["volumes"]}
    assert {"/plant/pwflow.toml", "/plant/.pwflow", "/scratch"} <= set(mounted)
    execute(made, run, container["args"])


def test_docker_is_given_a_container_with_the_folder_the_network_and_the_variables(made, monkeypatch):
    pytest.importorskip("dagster_docker")
    created: list[dict] = []

    def answer(method: str, path: str, body: dict) -> dict:
        if path.endswith("/version"):
            return {"ApiVersion": "1.45", "Version": "26"}
        if "/containers/create" in path:
            created.append(body)
        return {"Id": "c1", "Config": {}, "State": {}}

    for name, value in POSTGRES.items():
        monkeypatch.setenv(name, value)
    with listening(answer) as address:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://{address}")
        with instance_of(made, "dagster-docker.yaml") as instance:
            run = launch(made, instance)
    [container] = created
    assert container["Image"] == "pwflow"
    host = container["HostConfig"]
    assert host["Binds"] == ["/srv/pwflow:/plant"]
    assert host["NetworkMode"] == f"{yaml.safe_load((SERVER / 'compose.yaml').read_text())['name']}_default"
    assert (host["AutoRemove"], host["Memory"], host["Tmpfs"]) == (True, 4 << 30, {"/scratch": "size=20g"})
    assert {"PWFLOW_CONFIG=/plant/pwflow.toml", *(f"{k}={v}" for k, v in POSTGRES.items())} <= set(container["Env"])
    for name in POSTGRES:
        monkeypatch.delenv(name)
    execute(made, run, container["Cmd"])
