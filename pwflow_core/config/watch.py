"""The section `[watch]` of `pwflow.toml`: what `pwflow watch` follows between two nights, and where it says so."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pwflow_core.config.base import Section

__all__ = ["WatchConfig"]


class WatchConfig(Section):
    """What `pwflow watch` follows; without a broker, the files of `source.path`."""

    poll_seconds: Annotated[float, Field(gt=0, le=3600)] = 1.0
    """How often the folder is looked at for new files and new lines."""
    publish_seconds: Annotated[float, Field(gt=0, le=3600)] = 5.0
    """How often the live scores are written to the file that analysts open. It takes at most a tenth of the time."""
    most_readings: Annotated[int, Field(ge=1_000)] = 1_000_000
    """Live scores that are kept. The night replaces them; without one, the oldest go."""
