"""Create an environment of its own for the packages that pwflow is compared with.

    python tests/benchmarks/make_environment.py FOLDER
    FOLDER/bin/python tests/benchmarks/compare_peers.py

PyPI only, about 2 GB on disk and three minutes. torch is pinned to the version whose wheel pwflow is tested with.
margarine 2 runs on JAX and needs no TensorFlow: tensorflow-probability's JAX half is enough.
"""

from __future__ import annotations

import argparse
import subprocess
import venv
from pathlib import Path

PACKAGES = (
    "margarine==2.2.0",
    "zuko==1.6.0",
    "torch==2.13.0",
    "scikit-learn",
    "numpy>=2",
    "scipy",
    "safetensors",
    "threadpoolctl",
    "pyyaml",  # margarine imports it without asking for it
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if (folder / "Scripts").is_dir() else "bin") / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES], check=True)
    print(f"Done. Next: {python} tests/benchmarks/compare_peers.py")


if __name__ == "__main__":
    main()
