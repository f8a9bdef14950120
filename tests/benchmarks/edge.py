"""What scoring at the edge takes: CPU time per reading, beside PyTorch and ONNX Runtime, size, start and memory.

    python tests/benchmarks/edge.py

A plant with eight regimes and D sensors is trained and exported. A process of its own opens the bundle and scores: one
reading at a time, and a hundred machines with a reading each. Beside it the eight flows alone score the same readings,
in NumPy and by the network of the training in PyTorch, 10,000 at once. Their whole densities do, in NumPy and in ONNX
Runtime, at once and one at a time. Prints a Markdown table, in µs of CPU time per reading. `--memory 10000000` scores
so many readings instead, and prints the memory of the process on the way. Not part of the test suite: some minutes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measuring import command_line, measured, run_alone

N_REGIMES = 8
START = 1_709_251_200_000_000


def readings_of(n_rows: int, n_sensors: int, seed: int = 0) -> np.ndarray:
    """Eight bent regimes that overlap a little."""
    rng = np.random.default_rng(seed)
    regime = rng.integers(0, N_REGIMES, n_rows)
    centre = np.random.default_rng(1).normal(0, 4, (N_REGIMES, n_sensors))
    values = rng.normal(size=(n_rows, n_sensors))
    values[:, 1::2] += 0.5 * values[:, : n_sensors // 2 * 2 : 2] ** 2
    return centre[regime] + values


def export(folder: Path, n_sensors: int, n_rows: int, max_steps: int) -> None:
    """Train a plant and export it."""
    import pandas as pd
    from plants import learn_and_score, plant_of, read_all

    from pwflow_core.pipeline.using.bundling import export_bundle

    names = [f"s{i}" for i in range(n_sensors)]
    frame = pd.DataFrame(readings_of(n_rows, n_sensors), columns=names)
    frame.insert(0, "ts", pd.date_range("2024-01-01", periods=n_rows, freq="60s"))
    frame.insert(1, "machine", "m")
    plant = plant_of(
        folder,
        frame,
        names,
        clustering={"n_clusters": N_REGIMES},
        flow={"max_steps": max_steps},
        features={"windows": []},
    )
    read_all(plant)
    learn_and_score(plant)
    export_bundle(plant, folder / "bundle")


def score_alone(bundle: Path, n_sensors: int, n_rows: int) -> None:
    """Open a bundle, score, and print what it took: this process has imported NumPy and nothing else."""
    with measured() as start:
        from pwflow_core.edge import EdgeScorer

        scorer = EdgeScorer.open(bundle, fresh=True)
    X = readings_of(n_rows, n_sensors, seed=2)
    found = {"start": start.cpu_seconds, "kib": sum(path.stat().st_size for path in bundle.iterdir()) / 1024}
    for name, size in (("one", 1), ("hundred", 100)):
        n, machines = min(len(X), 200 * size), [f"m{i}" for i in range(size)]
        begin = time.process_time()
        for turn, i in enumerate(range(0, n, size)):
            at = np.full(size, START + 60_000_000 * (turn + 1) + (3_600_000_000 * 24 if size > 1 else 0))
            scorer.score(machines[: len(X[i : i + size])], at[: len(X[i : i + size])], X[i : i + size])
        found[name] = 1e6 * (time.process_time() - begin) / n
    [peak] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    print(json.dumps(found | {"mib": int(peak.split()[1]) / 1024}))  # of this process, not of the one that started it


def score_flows(bundle: Path, n_sensors: int, n_rows: int) -> tuple[float, float]:
    """Return what the eight flows alone take, in NumPy and in PyTorch, µs per reading."""
    import torch

    from pwflow_core.modelling.autoregressive import forward, mixing_log_det
    from pwflow_core.modelling.flow import ClusterFlow

    torch.set_num_threads(1)
    X = readings_of(n_rows, n_sensors, seed=2)
    flows = [ClusterFlow.from_bytes(path.read_bytes()) for path in sorted(bundle.glob("flow-*.safetensors"))]
    flows = [flow for flow in flows if not flow.is_gaussian]
    if not flows:
        return np.nan, np.nan
    views = [flow.architecture.views(flow.parameters[None]) for flow in flows]
    mixing = [mixing_log_det(view) for view in views]
    seconds = []
    for score in (
        lambda k: flows[k].density.network.forward(flows[k].whitening.whiten(X).astype(np.float32)),
        lambda k: forward(
            flows[k].architecture,
            views[k],
            torch.from_numpy(flows[k].whitening.whiten(X).astype(np.float32))[None],
            mixing[k],
        ),
    ):
        with torch.no_grad():
            score(0)
            begin = time.process_time()
            for k in range(len(flows)):
                score(k)
        seconds.append(1e6 * (time.process_time() - begin) / len(X))
    return seconds[0], seconds[1]


def score_densities(bundle: Path, n_sensors: int, n_rows: int) -> list[float]:
    """Return what the eight densities take, µs per reading: in NumPy and ONNX Runtime, at once and one at a time."""
    from pwflow_core.modelling.density import Density

    densities = [Density.from_bytes(path.read_bytes()) for path in sorted(bundle.glob("flow-*.safetensors"))]
    scorers = [[density.evaluate for density in densities]]
    try:
        import onnxruntime

        from pwflow_core.modelling.onnx_graph import INPUT, to_onnx
    except ImportError:
        print("ONNX Runtime: skipped, pwflow[onnx] is not installed", file=sys.stderr)
    else:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        sessions = [onnxruntime.InferenceSession(to_onnx(density), options) for density in densities]
        scorers.append([lambda X, session=session: session.run(None, {INPUT: X}) for session in sessions])
    X = readings_of(n_rows, n_sensors, seed=2)
    found = []
    for scorer in scorers:
        for batches in ([X], np.split(X[:200], 200)):
            scorer[0](batches[0])
            begin = time.process_time()
            for batch in batches:
                for score in scorer:
                    score(batch)
            found.append(1e6 * (time.process_time() - begin) / sum(map(len, batches)))
    return found + [np.nan] * (4 - len(found))


def watch_memory(bundle: Path, n_sensors: int, n_rows: int) -> None:
    """Score readings of a hundred machines; print the memory of this process after 1, 10, 100, … times a thousand."""
    from pwflow_core.edge import EdgeScorer

    scorer, machines = EdgeScorer.open(bundle, fresh=True), [f"m{i}" for i in range(100)]
    X = readings_of(10_000, n_sensors, seed=2)
    print("| readings | memory, MiB | state, KiB |\n|---|---|---|")
    shown, done = 100, 0
    while done < n_rows:
        at = np.full(100, START + 60_000_000 * (done // 100 + 1) + 3_600_000_000 * 24)
        scorer.score(machines, at, X[done % 10_000 : done % 10_000 + 100])
        done += 100
        if done == shown or done >= n_rows:
            status = Path("/proc/self/status").read_text().splitlines()
            [now] = [int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS")]
            print(f"| {done:,} | {now:.1f} | {len(scorer.state()) / 1024:.1f} |", flush=True)
            shown *= 10


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--memory", type=int, help="score so many readings, and print the memory on the way")
    parser.add_argument("--bundle", type=Path, help="score with this bundle, in this process")
    parser.add_argument("--sensors", type=int, default=8)
    parser.add_argument("--rows", type=int, default=10_000, help="readings that are scored")
    arguments = parser.parse_args()
    if arguments.bundle and arguments.memory:
        watch_memory(arguments.bundle, arguments.sensors, arguments.memory)
        return
    if arguments.bundle:
        score_alone(arguments.bundle, arguments.sensors, arguments.rows)
        return
    n_rows, max_steps = (2_000, 20) if arguments.smoke else (8_000, 100)  # how well it learned costs nothing later
    n_scored = 400 if arguments.smoke else arguments.rows
    if arguments.memory:
        with tempfile.TemporaryDirectory() as name:
            export(Path(name), arguments.sensors, n_rows, max_steps)
            command = [sys.executable, "-W", "ignore", __file__, "--bundle", f"{name}/bundle"]
            command += ["--sensors", str(arguments.sensors), "--memory", str(arguments.memory)]
            subprocess.run(command, check=True)
        return
    print(
        "| D | one at a time | 100 machines | 8 flows, NumPy | 8 flows, PyTorch | 8 densities, NumPy: at once | one at "
        "a time | ONNX Runtime: at once | one at a time | bundle, KiB | start, CPU s | memory, MiB |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|---|"
    )
    for n_sensors in (8,) if arguments.smoke else (8, 32):
        with tempfile.TemporaryDirectory() as name:
            export(Path(name), n_sensors, n_rows, max_steps)
            bundle = Path(name) / "bundle"
            alone = run_alone(__file__, "--bundle", bundle, "--sensors", n_sensors, "--rows", n_scored)
            flows = score_flows(bundle, n_sensors, n_scored // 8 * 8)
            densities = score_densities(bundle, n_sensors, n_scored // 8 * 8)
        cells = [alone["one"], alone["hundred"], *flows, *densities, alone["kib"]]
        shown = " | ".join(f"{value:,.0f}" if value >= 10 else f"{value:.1f}" for value in cells)
        print(f"| {n_sensors} | {shown} | {alone['start']:.2f} | {alone['mib']:.0f} |", flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main()
