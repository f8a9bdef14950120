"""How exports write times and numbers: one reading of each, shared by `pwflow init` and the runs.

`instants` and `numbers` make the SQL, `formats` and `zones` know what a text may look like, and `clocks` tells the two
hours apart that a clock shows when it is put back. What a column means is decided in `onboarding`.
"""

from pwflow_core.spelling.formats import parse_format
from pwflow_core.spelling.instants import EPOCH_FORMATS, NUMERIC_FORMATS, InstantSpelling, read_zones
from pwflow_core.spelling.numbers import NumberSpelling, clean_text

__all__ = [
    "EPOCH_FORMATS",
    "NUMERIC_FORMATS",
    "InstantSpelling",
    "NumberSpelling",
    "clean_text",
    "parse_format",
    "read_zones",
]
