"""Where DuckDB spills: in the scratch folder of this machine, each in a folder of its own."""

import socket
from concurrent.futures import ThreadPoolExecutor

SORT = """
    SELECT sum(place * (h % 1000))
    FROM (SELECT hash(range) AS h, row_number() OVER (ORDER BY hash(range + ?)) AS place FROM range(1_500_000))
"""


def test_two_that_spill_at_once_keep_out_of_each_others_files(make_plant):
    """DuckDB 1.5 gives files the same names in each; what a killed process left there is removed."""
    plant = make_plant(compute={"memory_limit": "60MiB", "scratch": "scratch"})
    spill = plant.config.folder / "scratch" / "spill"
    left = spill / f"{socket.gethostname()}-{2**22 + 1}-0"  # larger than the id of any process
    left.mkdir(parents=True)
    seen = []

    def sort(seed):
        with plant.warehouse.scratch() as connection:
            found = connection.execute(SORT, [seed]).fetchone()
            seen.extend(path.name for path in spill.iterdir())
            return found

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(sort, [1, 2]))
    assert found == [sort(1), sort(2)]
    assert seen, "it did spill"
    assert list(spill.iterdir()) == []
