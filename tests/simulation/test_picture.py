import numpy as np
import pytest

from esg_transformers.simulation.picture import FRAME_RATE, HEIGHT, WIDTH, render_picture
from esg_transformers.simulation.scenario import REOPENING, Interval, Occurrence, Scenario

NOTHING = Scenario(4.0, ())
ALARM = Scenario(4.0, (Occurrence("alarm", seen=Interval(1.0, 3.0), heard=Interval(1.5, 3.5)),))


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_lamp_flashes_only_while_the_alarm_is_seen():
    dark = np.stack(list(render_picture(NOTHING, rng()))).astype(int)
    flashing = np.stack(list(render_picture(ALARM, rng()))).astype(int)
    assert dark.shape == (4 * FRAME_RATE, HEIGHT, WIDTH, 3)
    added = (flashing - dark)[..., 0].max(axis=(1, 2))  # red, in the pixel that changes most
    assert not (flashing != dark)[: 1 * FRAME_RATE].any()
    assert not (flashing != dark)[3 * FRAME_RATE :].any()
    flashes = np.diff((added > 50).astype(int)) == 1
    assert flashes.sum() == 5  # 2 s at 2.5 flashes per second


@pytest.mark.parametrize("label", ["door slamming", "machine running", "person speaking"])
def test_the_picture_moves_while_a_thing_is_seen_and_is_unmoved_when_it_is_only_heard(label):
    still = np.stack(list(render_picture(NOTHING, rng()))).astype(int)
    heard = Scenario(4.0, (Occurrence(label, None, Interval(0.5, 1.7)),))
    seen = Scenario(4.0, (Occurrence(label, Interval(0.5, 1.7), None),))
    assert not (np.stack(list(render_picture(heard, rng()))) != still).any()

    changed = np.abs(np.stack(list(render_picture(seen, rng()))) - still).max(axis=(1, 2, 3)) > 30
    rest = 1.7 + (REOPENING if label == "door slamming" else 0)  # seconds
    assert not changed[: int(0.5 * FRAME_RATE)].any()
    assert not changed[int(rest * FRAME_RATE) + 1 :].any()
    assert changed[int(0.5 * FRAME_RATE) : int(1.7 * FRAME_RATE)].mean() > 0.75
