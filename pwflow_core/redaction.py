"""Secrets in text: what looks like one is replaced before the text reaches a log, an error or a table."""

from __future__ import annotations

import hashlib
import logging
import re

__all__ = ["SecretsFilter", "hide_secrets", "name_file"]

_HIDDEN = "***"
_IN_URL = re.compile(r"""(?<=://)(?:[^/\s'"@]+:[^\s'"]*|[^/\s'"]+)@""")
"""User and password before the host; a password may hold a slash, and the last @ ends it."""
_NAMED = re.compile(
    r"""(?ix)
    (?P<name>
        \b [\w-]* (?: password | passwd | passphrase | pwd | secret | token | signature | credentials?
            | (?: api | access | account ) [_-]? key | key_?id | connection_?string ) [\w-]* ["']?
        (?: \s* (?: => | = | : (?!//) ) \s* | \s+ (?= ['"] ) )
      | [?&] (?: sig | key ) =
    )
    (?: "(?:[^"]|"")*" | '(?:[^']|'')*' | ['"]? [^\s,;&)'"]+ )
    """
)
"""A value behind a name that says what it is, as in connection strings, SQL options, URL parameters and TOML."""


def hide_secrets(text: str) -> str:
    """Return `text` with stars where a password, key or token stands."""
    return _NAMED.sub(rf"\g<name>{_HIDDEN}", _IN_URL.sub(f"{_HIDDEN}@", text))


def name_file(path: str) -> str:
    """Return what a file is known by: its path; of a URL, what may be shown of it.

    Folders of a URL that look like secrets (`key_id=7`) are not to be taken for one another: a hash tells them apart.
    """
    if "://" not in path:
        return path
    place = _IN_URL.sub(f"{_HIDDEN}@", path).partition("?")[0]
    is_told = hide_secrets(place) == place
    return hide_secrets(path) if is_told else f"{hide_secrets(path)}#{hashlib.sha256(place.encode()).hexdigest()[:8]}"


class SecretsFilter(logging.Filter):
    """Hides secrets in what is logged, before any handler sees it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record; keep it."""
        record.msg, record.args = hide_secrets(record.getMessage()), None
        return True
