"""ONNX files beside a bundle: one for each flow, held to the log-densities that the night has written."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pwflow_core.errors import ConfigurationError, ModelFileError
from pwflow_core.modelling.completion import complete_rows
from pwflow_core.modelling.density import Density
from pwflow_core.pipeline.regimes.model import ClusterModel
from pwflow_core.pipeline.scoring.judge import ModelSet
from pwflow_core.plant import Plant
from pwflow_core.warehouse import quote_columns

__all__ = ["make_onnx", "require_onnx"]

Array = NDArray[np.float64]

_MOST_READINGS = 2_000
_MOST_NATS, _MOST_SHARE = 1e-4, 1e-6
"""How far a log-density may be off: in nats, and for readings far out as a share of it."""


def require_onnx() -> None:
    """Check that the packages are there.

    Raises:
        ConfigurationError: One is not.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            f"--onnx takes the packages onnx and onnxruntime ({error}): pip install 'pwflow[onnx]', then export again."
        ) from None


def make_onnx(plant: Plant, models: ModelSet, model: ClusterModel) -> dict[str, bytes]:
    """Return the ONNX file of each flow in use by its version, each checked.

    Raises:
        ModelFileError: A model file is missing or damaged, or what ONNX says of readings is not what the night says.
    """
    from pwflow_core.modelling.onnx_graph import to_onnx

    made: dict[str, bytes] = {}
    for regimes in models.regimes.values():
        for key, pin in regimes.items():
            data = to_onnx(Density.from_bytes(plant.models.get(pin.flow_version)))
            _check(key, data, *_scored_readings(plant, key, pin.flow_version, model))
            made[pin.flow_version] = data
    return made


def _scored_readings(plant: Plant, key: str, version: str, model: ClusterModel) -> tuple[Array, dict[str, Array]]:
    """Return readings of a regime, and what the night has written of them, by the name of the output."""
    part, position = model.locate(key)
    with plant.warehouse.snapshot() as connection:
        rows = connection.execute(
            f"""
            SELECT scored.log_density, scored.conformity, {quote_columns(model.columns)}
            FROM core.component_log_density AS scored JOIN core.model_readings USING (reading_id)
            WHERE scored.cluster_key = ? AND scored.flow_version = ?
            ORDER BY hash(reading_id) LIMIT ?
            """,
            [key, version, _MOST_READINGS],
        ).df()
    values = rows.to_numpy(dtype=np.float64, na_value=np.nan)
    X = complete_rows(values[:, 2:], part.seeds.means[position], part.seeds.covariances[position])
    return X, {"log_density": values[:, 0], "conformity": values[:, 1]}


def _check(key: str, data: bytes, X: Array, expected: dict[str, Array]) -> None:
    import onnxruntime

    from pwflow_core.modelling.onnx_graph import INPUT, OUTPUTS

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    for name, found in zip(OUTPUTS, session.run(list(OUTPUTS), {INPUT: X}), strict=True):
        off = np.abs(found - expected[name])
        if not (off <= _MOST_NATS + _MOST_SHARE * np.abs(expected[name])).all():
            raise ModelFileError(
                f"Expected the ONNX file of {key} to give the {name} of the last run within {_MOST_NATS:g} nats, got "
                f"readings that are {np.nanmax(off):.2g} nats off. Export without --onnx, and report this."
            )
