"""Folds: which readings learn, which stop the training, and which calibrate; every reading is in one of ten.

A fold is a set of whole blocks of time, drawn once from the time alone (`deriving`), so that neighbouring readings are
never on two sides. Three roles, and every use names the one that it means:

- **learn**: gradients see them.
- **stop**: they choose the number of regimes, end the training, and fit its shares; a choice was made on them.
- **calibrate**: nothing was chosen on them. They give p-values, say whether these hold, and judge a challenge.
"""

from __future__ import annotations

__all__ = ["CALIBRATION_FOLDS", "HELD_OUT_FOLDS", "LEARNING_FOLDS", "N_FOLDS", "STOPPING_FOLDS", "TRAINING_FOLDS"]

N_FOLDS = 10
CALIBRATION_FOLDS = (3, 8)
"""Folds that calibrate; no training ever sees them."""
STOPPING_FOLDS = (5,)
"""Folds that stop the training early and choose the number of regimes."""
LEARNING_FOLDS = tuple(fold for fold in range(N_FOLDS) if fold not in (*CALIBRATION_FOLDS, *STOPPING_FOLDS))
"""Folds that gradients see."""
TRAINING_FOLDS = (*LEARNING_FOLDS, *STOPPING_FOLDS)
"""Folds that a training sees: those that learn, and those that stop it."""
HELD_OUT_FOLDS = (*STOPPING_FOLDS, *CALIBRATION_FOLDS)
"""Folds that no gradient sees: what drift and pictures compare with."""
