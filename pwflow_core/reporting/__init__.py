"""The plant report: pictures for people who would rather look than read.

`building` ties it together. `facts`, `event_facts` and `regimes` read from the warehouse and ask the models; `pages`
says what each page shows; `drawing` draws it; `templates` holds the page. The words of each language lie in a file.
"""

from pwflow_core.reporting.building import ReportSummary, build_report, build_reports, report_path
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
    "report_path",
]
