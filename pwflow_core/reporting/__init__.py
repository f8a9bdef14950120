"""The plant report: pictures for people who would rather look than read.

`building` ties it together. `facts`, `event_facts` and `regimes` read from the warehouse and ask the models; `pages`
says what each page shows; `drawing` draws it; `templates` holds the page. The words of each language lie in a file.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pwflow_core.reporting.building import ReportSummary, build_report, build_reports, find_outdated, report_path
    from pwflow_core.reporting.images import draw_regimes, draw_training, draw_training_small
    from pwflow_core.reporting.texts import LANGUAGES

__all__ = [
    "LANGUAGES",
    "ReportSummary",
    "build_report",
    "build_reports",
    "draw_regimes",
    "draw_training",
    "draw_training_small",
    "find_outdated",
    "report_path",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module attribute can be anything
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "texts" if name == "LANGUAGES" else "images" if name.startswith("draw_") else "building"
    return getattr(import_module(f"{__name__}.{module}"), name)
