from __future__ import annotations

import matplotlib.image as mpimg
import pytest

from pwflow_core.reporting.event_picture import draw_event
from pwflow_core.reporting.texts import LANGUAGES
from tests.conftest import query


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_picture_of_an_event_is_a_png_with_score_and_sensors(unchanged_plant, tmp_path, language):
    event_id, sensors = query(
        unchanged_plant, "SELECT event_id, top_sensors FROM mart.anomaly_events ORDER BY peak_score DESC LIMIT 1"
    )[0]
    path = tmp_path / "event.png"
    path.write_bytes(draw_event(unchanged_plant, event_id, language))
    picture = mpimg.imread(path)
    assert picture.shape[1] > 700
    assert picture.shape[0] > 100 * (1 + len(sensors)), "a panel for the score and one for each sensor"
    assert len({tuple(pixel) for pixel in picture.reshape(-1, picture.shape[2])}) > 20


def test_an_event_that_is_gone_has_no_picture(unchanged_plant):
    assert draw_event(unchanged_plant, "E-000000", "en") is None
