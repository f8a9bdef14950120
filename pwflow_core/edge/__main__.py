"""`python -m pwflow_core.edge BUNDLE`: lines of readings in, lines of scores out, while they arrive."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pwflow_core.edge.following import follow
from pwflow_core.errors import PwflowError


def main() -> int:
    """Score the lines of standard input until it ends."""
    parser = argparse.ArgumentParser(prog="python -m pwflow_core.edge", description=__doc__)
    parser.add_argument("bundle", type=Path, help="folder that `pwflow export` wrote")
    parser.add_argument("--csv", action="store_true", help="lines are CSV with a header, not JSON objects")
    parser.add_argument("--state", type=Path, help="file to go on from after a restart; written after each batch")
    parser.add_argument("--anomalies", action="store_true", help="write only the scores of anomalies")
    given = parser.parse_args()
    try:
        followed = follow(
            given.bundle,
            sys.stdin.buffer,
            sys.stdout,
            is_csv=given.csv,
            state_file=given.state,
            only_anomalies=given.anomalies,
        )
    except PwflowError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(", ".join(f"{count:,} {name}" for name, count in followed.counts.items()), file=sys.stderr)
    for reason, text in followed.examples.items():
        print(f"{reason}: {text!a} first", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
