"""What the sections of `pwflow.toml` have in common."""

from __future__ import annotations

from zoneinfo import available_timezones

from pydantic import BaseModel, ConfigDict

__all__ = ["Section", "known_zone"]


class Section(BaseModel):
    """A section: an unknown key is an error, and the text behind a key is its description."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def known_zone(zone: str) -> str:
    """Return the name of an IANA time zone.

    Raises:
        ValueError: There is none of this name.
    """
    if zone not in available_timezones():
        raise ValueError(f"expected an IANA time zone such as 'UTC' or 'Europe/Berlin', got {zone!r}")
    return zone
