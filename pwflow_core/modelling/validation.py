"""Checks of the arrays that users hand in, with messages that name rows and columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pwflow_core.errors import SchemaMismatchError

Array = NDArray[np.float64]

FEWEST_ROWS_TO_SPLIT = 200


def as_matrix(
    X: object, *, n_features: int | None = None, names: Sequence[str] | None = None, allow_empty: bool = False
) -> Array:
    """Return readings as a float64 matrix of finite values, shape (N, D).

    Raises:
        SchemaMismatchError: Not two-dimensional, or D is not `n_features`.
        ValueError: No rows, or values that are NaN or infinite, named by row and column.

    """
    matrix = np.asarray(X, dtype=np.float64)
    if matrix.ndim != 2:
        raise SchemaMismatchError(
            f"Expected readings of shape (rows, sensors), got shape {matrix.shape}; "
            "reshape your data: one row per reading, one column per sensor."
        )
    if n_features is not None and matrix.shape[1] != n_features:
        raise SchemaMismatchError(
            f"X has {matrix.shape[1]} features, but this model is expecting {n_features} features as input: "
            "map the columns to the sensors that it was trained on, or train it again."
        )
    if matrix.shape[0] == 0 and not allow_empty:
        raise ValueError("Found array with 0 sample(s): at least one reading is needed.")
    check_finite(matrix, names)
    return matrix


def check_columns_are_numbers(X: object) -> None:
    """Refuse a data frame with a column that does not hold numbers; anything else passes.

    Raises:
        ValueError: Names up to five such columns, each with a value.

    """
    columns: Any = getattr(X, "columns", None)
    if columns is None or not hasattr(X, "dtypes"):
        return
    wrong = [(name, value) for name in columns for value in [_not_a_number(X[name])] if value is not None]  # type: ignore[index]
    if wrong:
        shown = ", ".join(f"{name!r} (such as {value!r})" for name, value in wrong[:5])
        raise ValueError(
            f"Expected numbers in every column, got something else in {shown}: leave these columns out; a process "
            "condition goes into `segments` of `PiecewiseFlow.fit`."
        )


def _not_a_number(column: Any) -> object:  # noqa: ANN401 - a column of any kind of frame
    """Return the first value of a column that is not a number; None if there is none."""
    values = np.asarray(column)
    if values.dtype.kind in "biuf":
        return None
    if values.dtype.kind in "mM":
        return str(values[0]) if len(values) else None
    try:
        values.astype(np.float64)
    except (TypeError, ValueError):
        return next(value for value in values.tolist() if not _is_number(value))
    return None


def _is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


def check_finite(matrix: Array, names: Sequence[str] | None = None) -> None:
    """Refuse NaN and infinity.

    Raises:
        ValueError: Names up to five offending rows, and up to five columns.

    """
    if np.isfinite(matrix.sum()):  # one pass without a temporary; an overflow falls through to the exact test
        return
    wrong = ~np.isfinite(matrix)
    if not wrong.any():
        return
    rows, columns = np.flatnonzero(wrong.any(axis=1)), np.flatnonzero(wrong.any(axis=0))
    titles: list[Any] = [names[c] if names is not None else int(c) for c in columns[:5]]
    kind = "NaN" if np.isnan(matrix).any() else "infinity"
    raise ValueError(
        f"Input X contains {kind}: {int(wrong.sum())} NaN or infinity values, in rows "
        f"{', '.join(map(str, rows[:5].tolist()))}{', …' if len(rows) > 5 else ''} and columns "
        f"{', '.join(map(str, titles))}{', …' if len(columns) > 5 else ''}; "
        "drop these rows or fill the values in first."
    )


def as_weights(sample_weight: object, n_rows: int) -> Array:
    """Return row weights as float64, shape (N,); ones when there are none.

    Raises:
        ValueError: Wrong length, negative, not finite, or all zero.

    """
    if sample_weight is None:
        return np.ones(n_rows)
    weight = np.asarray(sample_weight, dtype=np.float64)
    if weight.ndim == 0:
        weight = np.full(n_rows, float(weight))
    if weight.shape != (n_rows,):
        raise ValueError(f"Sample weights must be 1D, one per row: expected shape ({n_rows},), got {weight.shape}.")
    if not np.isfinite(weight).all() or (weight < 0).any() or not weight.any():
        raise ValueError("Sample weights must be finite, not negative, and not all zero.")
    return weight


def as_groups(values: object, n_rows: int, default: NDArray[Any]) -> NDArray[Any]:
    """Return labels or segments as an array of shape (N,).

    Raises:
        ValueError: Wrong length.

    """
    if values is None:
        return default
    groups = np.asarray(values)
    if groups.shape != (n_rows,):
        raise ValueError(f"Expected one label or segment per row, shape ({n_rows},), got {groups.shape}.")
    return groups


def held_out_blocks(n_rows: int, fraction: float, random_state: int, n_blocks: int = 24) -> NDArray[np.bool_]:
    """Choose contiguous blocks of rows to hold out, spread evenly over the data; none of fewer than 200 rows.

    Neighbouring sensor readings are nearly copies of each other: rows held out one by one would have a twin
    among the training rows, and would praise a model that has merely memorised it.

    Returns:
        True for rows held out, shape (N,); about `fraction` of them.

    """
    held_out = np.zeros(n_rows, dtype=bool)
    if n_rows < FEWEST_ROWS_TO_SPLIT:
        return held_out
    stratum = n_rows / n_blocks
    length = fraction * stratum
    starts = np.arange(n_blocks) * stratum
    starts += np.random.default_rng(random_state).uniform(0, stratum - length, n_blocks)
    for start in starts:
        held_out[round(start) : round(start + length)] = True
    return held_out


def thinned(n_rows: int, max_rows: int) -> NDArray[np.intp]:
    """Return the positions of at most `max_rows` rows, evenly spaced in the given order."""
    if n_rows <= max_rows:
        return np.arange(n_rows)
    return np.linspace(0, n_rows - 1, max_rows).round().astype(np.intp)


def paired_gain(
    before: Array, after: Array, weight: Array, block: NDArray[np.intp] | None = None
) -> tuple[float, float]:
    """Return the weighted mean of `after` − `before` over the same rows, and its standard error.

    Arguments:
        before: Log-density of each row under one model, shape (N,).
        after: The same under another, shape (N,).
        weight: Row weights, shape (N,).
        block: Block of each row, from 0, shape (N,): blocks are then the independent units, not rows.

    """
    gain = after - before
    mean = float(weight @ gain / weight.sum())
    block = np.arange(len(gain)) if block is None else block
    deviation = np.bincount(block, weights=weight * (gain - mean))
    return mean, float(np.sqrt(deviation @ deviation) / weight.sum())


def distinct_rows(
    X: Array, weight: Array, *groups: NDArray[Any], max_rows: int
) -> tuple[NDArray[np.intp], Array, NDArray[np.intp]]:
    """Find the distinct rows that have a weight, in the order in which they first appear.

    A repeated reading is one reading with more weight; kept apart, its copies could stand on both sides of
    the split between training and held-out rows.

    Arguments:
        X: Shape (N, D).
        weight: Shape (N,).
        groups: Arrays of shape (N,): rows that differ in one of them are different.
        max_rows: Most distinct rows to return; more are thinned evenly.

    Returns:
        Position of each distinct row in X and the weight of all its twins, each of shape (M,), and for each row of X
        the position of its twin among the distinct rows, or -1 if it has no weight or was left out, shape (N,).

    """
    used = np.flatnonzero(weight > 0)
    codes = [np.unique(group[used], return_inverse=True)[1][:, None].astype(float) for group in groups]
    _, first, twin = np.unique(
        np.concatenate([X[used], *codes], axis=1), axis=0, return_index=True, return_inverse=True
    )
    order = np.argsort(first, kind="stable")
    rank = np.empty(len(order), dtype=np.intp)
    rank[order] = np.arange(len(order))
    where = np.full(len(X), -1, dtype=np.intp)
    where[used] = rank[twin.ravel()]
    total = np.bincount(where[used], weights=weight[used]).astype(np.float64)
    keep = thinned(len(order), max_rows)
    position = np.full(len(order) + 1, -1, dtype=np.intp)  # what has no weight points to the last
    position[keep] = np.arange(len(keep))
    return used[first[order]][keep], total[keep], position[where]
