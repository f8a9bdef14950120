"""Pages: how templates are filled in, and how the file comes into its place."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from pwflow_core.errors import ConfigurationError, StorageFullError
from pwflow_core.reporting.drawing.palette import DARK, LIGHT
from pwflow_core.reporting.names import clean_name, shorten_name
from pwflow_core.storage import replace_file

__all__ = ["make_environment", "put_in_place"]


def make_environment(*packages: str) -> Environment:
    """Return where templates are found and how they are filled in: everything that is not markup is escaped.

    Arguments:
        packages: Packages with templates of their own, which may use those of this one.
    """
    own = PackageLoader(__package__, "templates")
    environment = Environment(
        loader=ChoiceLoader([*(PackageLoader(package, "templates") for package in packages), own]),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"clean": clean_name, "shorten": shorten_name, "breakable": _breakable, "coded": _coded}
    script = own.get_source(environment, "search.js")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals |= {"light": LIGHT, "dark": DARK}
    environment.globals |= {"search_script": Markup(script), "search_hash": f"sha256-{digest}"}  # noqa: S704 - our own
    return environment


def _breakable(text: str) -> Markup:
    """Let the lines of a narrow column break behind the underscores of a name."""
    return escape(text).replace("_", Markup("_<wbr>"))


def _coded(text: str) -> Markup:
    """Set what stands between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped before


def put_in_place(page: str, target: Path) -> int:
    """Write the report as a whole, so that whoever opens it sees all of it; return its size.

    Raises:
        ConfigurationError: It cannot be written there.
        StorageFullError: The disk is full.
    """
    data = page.encode("utf-8")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        replace_file(target, data)
    except StorageFullError:
        raise
    except OSError as error:
        raise ConfigurationError(
            f"The report cannot be written to {target}: {error.strerror}. Name another place."
        ) from None
    return len(data)
