"""Compare density models on the user's own readings or on toy targets.

`data` says what they learn from and are judged on, `models` which there are, `worker` fits and measures one in a
process of its own, `running` goes through them, and `table` shows the result.
"""

from pwflow_core.benchmarking.data import BenchmarkData, from_file, from_plant, from_target
from pwflow_core.benchmarking.models import MODEL_TITLES
from pwflow_core.benchmarking.running import run_benchmark
from pwflow_core.benchmarking.table import render_table, write_csv

__all__ = [
    "MODEL_TITLES",
    "BenchmarkData",
    "from_file",
    "from_plant",
    "from_target",
    "render_table",
    "run_benchmark",
    "write_csv",
]
