from __future__ import annotations

import subprocess
import sys

import numpy as np


def test_the_documented_import_is_lazy_and_works():
    code = (
        "import sys, pwflow_core\n"
        "print('torch' in sys.modules)\n"
        "from pwflow_core import PiecewiseFlow, PiecewiseFlowDetector\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_a_detector_of_the_public_api_flags_what_is_far_away():
    from pwflow_core import PiecewiseFlowDetector

    rng = np.random.default_rng(0)
    normal = np.concatenate([rng.normal(-4, 1, (400, 2)), rng.normal(4, 0.5, (400, 2))])
    detector = PiecewiseFlowDetector(random_state=0).fit(normal)
    assert detector.predict([[0.0, 0.0], [-4.0, -4.0], [4.0, 4.0]]).tolist() == [-1, 1, 1]
