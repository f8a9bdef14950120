"""The section of `pwflow.toml` that says how long readings are kept."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pwflow_core.config.base import Section

__all__ = ["RetentionConfig"]


class RetentionConfig(Section):
    """How long readings are kept; without it, for ever."""

    readings_days: Annotated[int, Field(ge=7, le=36_500)] | None = None
    """Days that readings and their scores are kept, counted from the last one; means by the hour stay for ever.

    Older ones stay where something refers to them: a flow in use learned from them, an event or a case is there, a case
    or verdict is open, or a person decided about that time.
    """
