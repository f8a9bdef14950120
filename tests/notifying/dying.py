"""A process that dies while it tells: at each point in turn, in a copy of itself, with a copy of the plant.

Called with the folder of a plant. Points are before and after each change of the outbox, and before and after each
message that leaves. After each death a second copy goes on undisturbed. Prints the points, one a line.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from pwflow_core.config import parse_config
from pwflow_core.notifying import delivering, outbox
from pwflow_core.plant import Plant
from pwflow_core.warehouse import utc_now


def arm(kill_at: int, points: Path) -> None:
    """Have this process killed at its n-th point."""
    passed = 0
    committed, send = outbox._committed, delivering.send

    def pass_point(name: str) -> None:
        nonlocal passed
        passed += 1
        if passed == kill_at:
            points.write_text(name)
            os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def committing(connection) -> Iterator[None]:
        before, is_change = connection.total_changes, False
        with committed(connection):
            yield
            if is_change := connection.total_changes > before:
                pass_point("before a change of the outbox")
        if is_change:
            pass_point("after a change of the outbox")

    def sending(*arguments) -> None:
        pass_point("before a message leaves")
        send(*arguments)
        pass_point("after a message has left")

    outbox._committed, delivering.send = committing, sending


def tell_in_a_copy(folder: Path, number: int, *, kill_at: int | None, points: Path) -> int:
    """Tell in a copy of this process; return how that ended."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            values = json.loads((folder / "config.json").read_text()) | {"plant": {"name": f"n{number}"}}
            plant = Plant.open(parse_config(values, name="the test", folder=folder))
            if kill_at is not None:
                arm(kill_at, points)
            else:  # what was begun is due again by then
                delivering.tell(plant, now=utc_now() + timedelta(minutes=2))
            delivering.tell(plant)
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    template = Path(sys.argv[1])
    for number in range(1, 200):
        folder = template.with_name(f"n{number}")
        shutil.copytree(template, folder)
        point = folder / "point"
        ended = tell_in_a_copy(folder, number, kill_at=number, points=point)
        if ended == 0:
            return
        if ended != -signal.SIGKILL or tell_in_a_copy(folder, number, kill_at=None, points=point) != 0:
            sys.exit(f"point {number} ended with {ended}")
        print(f"n{number}", point.read_text(), flush=True)


if __name__ == "__main__":
    main()
