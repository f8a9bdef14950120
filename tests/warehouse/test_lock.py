"""The moment between the head of the file, which DuckDB reads first, and its lock: nobody commits in it."""

import fcntl
import os
import signal
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pwflow_core.errors import WarehouseLockedError
from pwflow_core.warehouse import FileWarehouse
from tests.conftest import query, reopen, start_process

FACT = "INSERT INTO core.plant_facts VALUES (?, '')"


def commit(plant, *facts: str) -> None:
    for fact in facts:
        with plant.warehouse.transaction() as connection:
            connection.execute(FACT, [fact])


class Doorkeeper:
    """Holds up whoever opens a file for writing, with a lease on it, until `let_in`."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY)
        fcntl.fcntl(self._file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(self._file, fcntl.F_SETOWN, 0)  # no signal, which would end this process

    def wait(self) -> None:
        """Wait until somebody is held up."""
        for _ in range(3000):
            if fcntl.fcntl(self._file, fcntl.F_GETLEASE) == fcntl.F_UNLCK:
                return
            time.sleep(0.01)
        raise AssertionError("nobody came")

    def let_in(self) -> None:
        fcntl.fcntl(self._file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        os.close(self._file)


@pytest.mark.skipif(not hasattr(fcntl, "F_SETLEASE"), reason="leases on files are of Linux")
@pytest.mark.parametrize("n_meanwhile", [1, 2])
def test_a_writer_held_up_while_it_opens_the_file_overwrites_no_commit(make_plant, n_meanwhile):
    """DuckDB alone lets it go on from the head that it read before: one commit is lost, after two it sees damage."""
    plant = make_plant(warehouse={"wait_seconds": 60.0})
    commit(plant, "before")
    doorkeeper = Doorkeeper(plant.warehouse.path)
    held_up = start_process(plant, f'with plant.warehouse.transaction() as c: c.execute("{FACT}", ["held up"])')
    doorkeeper.wait()
    os.kill(held_up.pid, signal.SIGSTOP)
    doorkeeper.let_in()
    committed = {"before", "held up", "after"}
    for fact in map(str, range(n_meanwhile)):
        try:
            commit(reopen(plant, warehouse={"wait_seconds": 0.1}), fact)
        except WarehouseLockedError:
            continue
        committed.add(fact)
    os.kill(held_up.pid, signal.SIGCONT)
    _, errors = held_up.communicate(timeout=60)
    assert held_up.returncode == 0, errors
    commit(reopen(plant, warehouse={"wait_seconds": 60.0}), "after")
    assert {fact for (fact,) in query(plant, "SELECT fact FROM core.plant_facts")} == committed
    assert query(plant, "SELECT what FROM core.recoveries") == []


def test_threads_that_read_and_write_one_warehouse_take_turns(make_plant):
    plant = make_plant(warehouse={"wait_seconds": 60.0})

    def work(thread: int) -> list[int]:
        found = []
        for n in range(5):
            commit(plant, f"{thread}-{n}")
            [(count,)] = query(plant, "SELECT count(*) FROM core.plant_facts WHERE fact LIKE ?", f"{thread}-%")
            found.append(count)
        return found

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [[1, 2, 3, 4, 5]] * 4
    assert query(plant, "SELECT count(*) FROM core.plant_facts") == [(20,)]
    assert query(plant, "SELECT what FROM core.recoveries") == []


@pytest.mark.parametrize("has_lock", [True, False], ids=["as it is", "of an earlier release"])
def test_who_may_not_write_beside_the_warehouse_reads_it(make_plant, has_lock):
    plant = make_plant()
    code = """
from pwflow_core.warehouse import FileWarehouse
os.geteuid() or os.seteuid(65534)  # root may write everywhere
with FileWarehouse(pathlib.Path({!r}), wait_seconds=5, memory_limit="500MB").snapshot() as connection:
    print(connection.execute("SELECT fact FROM core.plant_facts").fetchall())
"""
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders let nobody else in
        warehouse = FileWarehouse(Path(name) / "w.duckdb", wait_seconds=5, memory_limit="500MB")
        with warehouse.transaction() as connection:
            connection.execute(FACT, ["readable"])
        if not has_lock:
            warehouse.lock_path.unlink()
        for path in Path(name).iterdir():
            path.chmod(0o444)
        Path(name).chmod(0o555)
        output, errors = start_process(plant, code.format(str(warehouse.path))).communicate(timeout=60)
        Path(name).chmod(0o755)
        assert output == "[('readable',)]\n", errors
        assert warehouse.lock_path.exists() == has_lock
