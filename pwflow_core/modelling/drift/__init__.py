"""Drift: evidence per cluster and night that a cluster moved, and by how much.

Arrays in, dataclasses out. `blocks` and `nights` say what is counted, `reference` what it is compared with, `evidence`
is what may be looked at for ever, `shift` and `mix` measure effects, `endings` says whether these are gone, `units`
knows units, and `verdicts` judges the plant from what `plant` describes, in the words of `sentences`.
"""

from pwflow_core.modelling.drift.blocks import Blocks, block_readings
from pwflow_core.modelling.drift.endings import has_no_strangers, is_back, latest_nights
from pwflow_core.modelling.drift.evidence import DriftState, advance, log_threshold
from pwflow_core.modelling.drift.mix import MixShift, measure_mix, mix_blocks
from pwflow_core.modelling.drift.plant import Availability, ClusterEvidence, MixEvidence, SensorLevels
from pwflow_core.modelling.drift.reference import DriftReference
from pwflow_core.modelling.drift.sentences import SensorName
from pwflow_core.modelling.drift.shift import Effects, ImprobablePart, Shift, measure_shift
from pwflow_core.modelling.drift.units import UNIT_QUANTILES, Conversion, find_conversion
from pwflow_core.modelling.drift.verdicts import Kind, Verdict, judge

__all__ = [
    "UNIT_QUANTILES",
    "Availability",
    "Blocks",
    "ClusterEvidence",
    "Conversion",
    "DriftReference",
    "DriftState",
    "Effects",
    "ImprobablePart",
    "Kind",
    "MixEvidence",
    "MixShift",
    "SensorLevels",
    "SensorName",
    "Shift",
    "Verdict",
    "advance",
    "block_readings",
    "find_conversion",
    "has_no_strangers",
    "is_back",
    "judge",
    "latest_nights",
    "log_threshold",
    "measure_mix",
    "measure_shift",
    "mix_blocks",
]
