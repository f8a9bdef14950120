"""The section `[warehouse]`: which backend keeps readings and scores, and where."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import Field, field_validator, model_validator

from pwflow_core.config.base import Section

__all__ = ["WarehouseConfig"]

_FILE, _LAKE, _POSTGRES = "duckdb:///", "ducklake:///", "ducklake+postgres://"
_SCHEMA = "pwflow"
_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]{0,62}")


class WarehouseConfig(Section):
    """Where readings and scores are kept, relative to this file."""

    url: str = "duckdb:///.pwflow/warehouse.duckdb"
    """`duckdb:///relative/path` (to the configuration file) or `duckdb:////absolute/path`; or a lake, see
    [how to choose](../how-to/warehouse.md): `ducklake:///folder`, or `ducklake+postgres://user@host/database?schema=name`.
    """
    data: str | None = None
    """Where a lake keeps its Parquet files: a folder, or a URL such as `s3://bucket/plant`. By default `data` in the
    folder of `ducklake:///folder`; a lake with its catalog in Postgres needs it, and has a folder there
    that is called as the schema."""
    published: str = ".pwflow/published.duckdb"
    """The read-only copy for analysts, replaced as a whole by every run."""
    keep_days: Annotated[int, Field(ge=1)] = 30
    """Days for which a lake can still say what its tables held; older commits go with `pwflow maintain`."""
    wait_seconds: Annotated[float, Field(ge=0)] = 120.0
    """How long to wait for another process that holds the warehouse."""

    @field_validator("url")
    @classmethod
    def _known_backend(cls, url: str) -> str:
        if not any(url.startswith(start) and len(url) > len(start) for start in (_FILE, _LAKE, _POSTGRES)):
            raise ValueError(f"expected {_FILE}file, {_LAKE}folder or {_POSTGRES}host/database?schema=name")
        if url.startswith(_POSTGRES):
            parts = urlsplit(url)
            options = dict(parse_qsl(parts.query))
            if parts.password is not None or "password" in options:
                raise ValueError("expected no password; put it into the variable PGPASSWORD or into ~/.pgpass")
            if not _IDENTIFIER.fullmatch(schema := options.get("schema", _SCHEMA)):
                raise ValueError(f"expected a schema of small letters, digits and _, got {schema!r}")
        return url

    @model_validator(mode="after")
    def _data_of_a_lake(self) -> WarehouseConfig:
        if self.url.startswith(_FILE) and self.data is not None:
            raise ValueError("data is for a lake; with duckdb:///, all is in the one file. Remove it")
        if self.url.startswith(_POSTGRES) and self.data is None:
            raise ValueError(
                "a lake with its catalog in Postgres needs data: a folder that all its users see, or s3://…"
            )
        return self

    @property
    def is_lake(self) -> bool:
        """Whether it is a lake, not one file."""
        return not self.url.startswith(_FILE)

    @property
    def path(self) -> str | None:
        """Path of the file, or of the folder of the lake; None where the catalog is on a server."""
        return None if self.url.startswith(_POSTGRES) else self.url.removeprefix(_FILE).removeprefix(_LAKE)

    @property
    def catalog_schema(self) -> str:
        """Schema of the catalog in Postgres."""
        return dict(parse_qsl(urlsplit(self.url).query)).get("schema", _SCHEMA)

    @property
    def postgres_options(self) -> dict[str, str]:
        """How to connect to Postgres, by the names of libpq, which looks up itself what is not there."""
        parts = urlsplit(self.url)
        named = {
            "host": parts.hostname,
            "port": str(parts.port) if parts.port else None,
            "user": unquote(parts.username) if parts.username else None,
            "dbname": parts.path.strip("/"),
        }
        others = {name: value for name, value in parse_qsl(parts.query) if name != "schema"}
        return {name: value for name, value in (named | others).items() if value}
