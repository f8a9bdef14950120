"""pwflow beside its peers, in one run on one core: training cost and scoring speed.

    python tests/benchmarks/make_environment.py /tmp/peers
    /tmp/peers/bin/python tests/benchmarks/compare_peers.py                      # all; about half an hour
    /tmp/peers/bin/python tests/benchmarks/compare_peers.py --lines scoring growth

Every system runs with its default settings, in a process of its own, on one thread; for each seed ours and the
peers take turns. Times are CPU seconds; the figures printed are medians over the seeds, ratios are medians of the
ratios within a seed. See `peers.py` for how each peer is run.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from measuring import command_line

HERE = Path(__file__).parent
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1") | {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
    "TQDM_DISABLE": "1",
}
Figures = dict[str, float]
ALWAYS: list[str] = []
SIZES = [4, 8, 16, 32]


def run(system: str, seed: int, *arguments: str) -> Figures:
    """Run one system of `peers.py` in a process of its own, on one core where the system allows."""
    print(f"  seed {seed}: {system} {' '.join(arguments)}", file=sys.stderr, flush=True)
    environment = os.environ | ONE_THREAD | {"PYTHONPATH": str(HERE.parents[1])}
    command = [sys.executable, str(HERE / "peers.py"), *ALWAYS, system, str(seed), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{system} failed:\n{done.stderr[-3000:]}")
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    print(f"    {json.dumps({k: round(v, 4) for k, v in found.items()})}", file=sys.stderr, flush=True)
    return found


def median(runs: list[Figures], key: str) -> float:
    return statistics.median(found[key] for found in runs)


def median_ratio(over: list[Figures], under: list[Figures], key: str) -> float:
    return statistics.median(a[key] / b[key] for a, b in zip(over, under, strict=True))


def moons(seeds: range) -> None:
    """Two moons, 10,000 rows: the authors' package."""
    ours, theirs = [], []
    for seed in seeds:
        ours.append(run("pwflow", seed, "two_moons"))
        theirs.append(run("margarine", seed, "two_moons"))
    ratio = median_ratio(theirs, ours, "cpu_seconds")
    print(
        f"two moons, 10,000 rows: pwflow {median(ours, 'cpu_seconds'):.1f} CPU s, true KL {median(ours, 'kl'):.4f}; "
        f"margarine {median(theirs, 'cpu_seconds'):.0f} CPU s, true KL {median(theirs, 'kl'):.3f}; "
        f"margarine / pwflow = {ratio:.0f} x (wanted 40 x or more)"
    )
    if failed := sum(1 for found in theirs if not found["searched"]):
        print(f"  margarine's search for the number of clusters failed in {failed} of {len(theirs)}; it was told 2")


def library(seeds: range) -> None:
    """Eight clusters in eight dimensions, 10,000 rows: one zuko MAF per cluster, one after the other."""
    ours, hard, soft, quick = [], [], [], []
    for seed in seeds:
        hard.append(run("zuko", seed, "warped_8d", "--clusters", "kmeans"))
        soft.append(run("zuko", seed, "warped_8d", "--clusters", "gmm"))
        ours.append(run("pwflow", seed, "warped_8d", "--clusters", "8"))
        best = max(hard[-1]["held_out"], soft[-1]["held_out"])
        quick.append(run("pwflow", seed, "warped_8d", "--clusters", "8", "--reach", repr(best)))
    print(
        f"K = 8, D = 8, 10,000 rows: pwflow {median(ours, 'cpu_seconds'):.1f} CPU s to its own end, held-out loss "
        f"{-median(ours, 'held_out'):.3f}; {median(quick, 'cpu_seconds'):.1f} CPU s to a loss at most the better "
        "zuko's"
    )
    for name, peers in (("k-means", hard), ("pwflow's own Gaussian mixture", soft)):
        print(
            f"  zuko, one MAF per cluster of {name}: {median(peers, 'cpu_seconds'):.1f} CPU s, held-out loss "
            f"{-median(peers, 'held_out'):.3f}; zuko / pwflow = {median_ratio(peers, ours, 'cpu_seconds'):.1f} x to "
            f"its own end, {median_ratio(peers, quick, 'cpu_seconds'):.1f} x to that loss (wanted 4 x or more)"
        )


def scoring(seeds: range) -> None:
    """Rows scored a second, eight clusters in eight dimensions."""
    found = [run("scoring", seed) for seed in seeds]
    print(
        f"scoring, K = 8, D = 8, one core: pwflow {median(found, 'pwflow'):,.0f} rows/s (exact "
        f"{median(found, 'exact'):,.0f}); the same flows in full through zuko {median(found, 'zuko'):,.0f}; "
        f"GaussianMixture {median(found, 'gmm'):,.0f}; pwflow / zuko = "
        f"{statistics.median(f['pwflow'] / f['zuko'] for f in found):.1f} x (wanted 5 x or more), pwflow / "
        f"GaussianMixture = {statistics.median(f['pwflow'] / f['gmm'] for f in found):.2f} (wanted 0.5 or more)"
    )


def growth(seeds: range) -> None:
    """Training cost against K at fixed rows."""
    runs = {k: [] for k in SIZES}
    for seed in seeds:
        for k in SIZES:
            runs[k].append(run("pwflow", seed, "warped_8d", "--clusters", str(k)))
    print(
        "training cost against K, D = 8, 10,000 rows: "
        + ", ".join(f"K = {k} {median(runs[k], 'cpu_seconds'):.1f} CPU s" for k in SIZES)
        + f"; K = {SIZES[-1]} / K = {SIZES[0]} = {median_ratio(runs[SIZES[-1]], runs[SIZES[0]], 'cpu_seconds'):.2f} x "
        "(wanted below 1.5 x)"
    )


PEERS = {"scoring": "zuko", "library": "zuko", "moons": "margarine"}
LINES: dict[str, Callable[[range], None]] = {"scoring": scoring, "growth": growth, "library": library, "moons": moons}


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--lines", nargs="*", choices=LINES, default=list(LINES))
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    if given.smoke:
        given.seeds, ALWAYS[:], SIZES[:] = 1, ["--smoke"], [2, 3]
    for line in given.lines:
        peer = PEERS.get(line)
        if peer is not None and find_spec(peer) is None:
            print(f"{line}: skipped, {peer} is not installed; see make_environment.py")
            continue
        LINES[line](range(given.seeds))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
