"""The section `[notify]` of `pwflow.toml`: who is told what, and when."""

from __future__ import annotations

import re
from datetime import datetime, time
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = ["SEVERITIES", "NotifyConfig", "Severity", "TargetConfig"]

Severity = Literal["low", "medium", "high"]

SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""From the least to the most."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_NAME = re.compile(r"[a-z0-9_-]{1,40}")
_LINK = re.compile(r"(https?|file)://[^\s@]{1,500}")
_SPAN = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)


class TargetConfig(_Section):
    """One target: a mailbox, a channel, a topic, a program."""

    url_env: str
    """Environment variable that holds its URL, as Apprise writes it: `mailto://…`, `slack://…`, `mqtt://…`. The URL
    itself must not be in this file."""
    secret_env: str | None = None
    """Environment variable that holds the secret of a signed webhook; the URL is then `https://…` or `http://…`."""
    language: Literal["en", "ja"] = "en"
    """Language of the messages: `en` or `ja`."""
    severity: Severity = "low"
    """Least severity that is told: `low`, `medium` or `high`."""
    quiet: str | None = None
    """Quiet hours such as `22:00-06:00`, in `schedule.timezone`. What happens then is told when they end."""
    quiet_severity: Severity | None = None
    """From this severity on, quiet hours hold nothing back. Without it they hold back everything."""
    most_per_hour: Annotated[int, Field(ge=1, le=1000)] = 6
    """Most messages in an hour. If there is more to tell, the gravest come alone and the rest as one summary."""

    @field_validator("url_env", "secret_env", mode="before")
    @classmethod
    def _name_of_a_variable(cls, name: object) -> object:
        """Refuse anything but a name, without showing it: it may be the secret itself."""
        if name is not None and not (isinstance(name, str) and _VARIABLE.fullmatch(name)):
            raise ValueError(
                "expected the name of an environment variable, such as PWFLOW_MAIL_URL, got something else, which is "
                "not shown because it may be a secret; put the URL or the secret into that variable"
            )
        return name

    @field_validator("quiet")
    @classmethod
    def _two_times(cls, quiet: str | None) -> str | None:
        found = _SPAN.fullmatch(quiet or "00:00-00:01")
        if found is None or found.groups()[:2] == found.groups()[2:]:
            raise ValueError(f"expected two different times such as '22:00-06:00', got {quiet!r}")
        return quiet

    @model_validator(mode="after")
    def _quiet_hours_to_break(self) -> TargetConfig:
        if self.quiet_severity is not None and self.quiet is None:
            raise ValueError("expected quiet beside quiet_severity, got none")
        return self

    def is_quiet(self, moment: datetime) -> bool:
        """Return whether a local time of the plant is within the quiet hours; their end is not."""
        found = _SPAN.fullmatch(self.quiet or "")
        if found is None:
            return False
        hours, minutes, end_hours, end_minutes = map(int, found.groups())
        start, end, now = time(hours, minutes), time(end_hours, end_minutes), moment.time()
        return start <= now < end if start < end else now >= start or now < end

    def is_told(self, severity: Severity) -> bool:
        """Return whether the target wants to know of something so severe."""
        return SEVERITIES.index(severity) >= SEVERITIES.index(self.severity)

    def waits(self, severity: Severity, moment: datetime) -> bool:
        """Return whether quiet hours hold something back at a local time of the plant."""
        floor = self.quiet_severity
        is_urgent = floor is not None and SEVERITIES.index(severity) >= SEVERITIES.index(floor)
        return self.is_quiet(moment) and not is_urgent


class NotifyConfig(_Section):
    """Who is told of what a run finds, and of runs that fail. Without a target nobody is."""

    link: str | None = None
    """Address at which people open the report; every message has it."""
    targets: dict[str, TargetConfig] = Field(default_factory=dict)
    """By a name of your choice, as `[notify.targets.NAME]`."""

    @model_validator(mode="before")
    @classmethod
    def _nothing_shown(cls, values: object) -> object:
        """Refuse what stands at the place of a table or of a name without showing it: it may be a URL with a secret."""
        targets = values.get("targets", {}) if isinstance(values, dict) else None
        if not isinstance(targets, dict) or any(not isinstance(t, dict | TargetConfig) for t in targets.values()):
            raise ValueError(
                "expected tables such as [notify.targets.mail], got something else, which is not shown because it may "
                "be a secret; put the URL into an environment variable and name that as url_env"
            )
        if any(not _NAME.fullmatch(name) for name in targets):
            raise ValueError("expected names of targets with 1 to 40 of a-z, 0-9, _ and -, got another one")
        return values

    @field_validator("link", mode="before")
    @classmethod
    def _address(cls, link: object) -> object:
        if link is not None and not (isinstance(link, str) and _LINK.fullmatch(link)):
            raise ValueError("expected an address such as https://reports.example/plant.html, without user or password")
        return link
