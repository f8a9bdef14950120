"""The command line: one module per group of commands, `program` puts them together.

Commands are thin: they open the plant, call the core or a run, and print. What they need is imported when they run,
so that `pwflow --help` is quick.
"""

from pwflow_dagster.cli.program import main

__all__ = ["main"]
