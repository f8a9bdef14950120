"""`python -m pwflow_dagster`: the same as `pwflow`."""

from pwflow_dagster.cli import main

main(prog_name="pwflow")
