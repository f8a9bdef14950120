"""Retention: model files that nothing needs any more are deleted; their rows in the registry stay.

The file of a flow is deleted if all of these hold: the flow is out of force, and has been for longer than
`models.keep_days` (one that never was in use counts from its last training); no score and no slice comes from it; it
belongs to no model set of the last `models.keep_days`, and to none that an anomaly is still to be explained with. Files
of cluster models are small, and are kept.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from pwflow_core.plant import Plant
from pwflow_core.warehouse import read_sql, utc_now

__all__ = ["collect_model_files"]

_log = logging.getLogger("pwflow.retention")

_SHOWN = 12


def collect_model_files(plant: Plant) -> list[str]:
    """Delete the files of flows that are out of force for long and that nothing refers to; return their versions.

    A flow is marked before its file goes: what is killed in between leaves a file too many, never a row that promises
    a file. The next call deletes it, and what is left of files that were being stored when a process was killed.
    """
    now = utc_now()
    expiry = now - timedelta(days=plant.config.models.keep_days)
    with plant.warehouse.transaction() as connection:
        rows = connection.execute(read_sql(__package__, "retention.sql"), {"expiry": expiry}).fetchall()
        versions = [str(row[0]) for row in rows]
        connection.execute(
            "UPDATE mart.flow_versions SET file_deleted_at = $now "
            "WHERE file_deleted_at IS NULL AND list_contains($versions::VARCHAR[], flow_version)",
            {"now": now, "versions": versions},
        )
    deleted = [version for version in versions if plant.models.delete(version)]
    plant.models.remove_leftovers()
    if deleted:
        _log.info(
            "%d model files of flows out of force for more than %d days were deleted: %s",
            len(deleted),
            plant.config.models.keep_days,
            ", ".join(f"{version[:_SHOWN]}…" for version in deleted),
        )
    return deleted
