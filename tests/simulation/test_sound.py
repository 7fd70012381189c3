import numpy as np
import pytest

from esg_transformers.simulation.scenario import LABELS, Interval, Occurrence, Scenario
from esg_transformers.simulation.sound import ALARM_BAND, SAMPLING_RATE, render_sound

NOTHING = Scenario(4.0, ())
ALARM = Scenario(4.0, (Occurrence("alarm", seen=Interval(1.0, 3.0), heard=Interval(1.5, 3.5)),))


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_alarm_band_is_loud_only_while_the_alarm_is_heard():
    waveform = render_sound(ALARM, rng())
    assert waveform.dtype == np.float32 and waveform.shape == (4 * SAMPLING_RATE,)
    power = [_alarm_power(waveform, start) for start in np.arange(0, 4, 0.5)]
    assert min(power[3:7]) > 20 * max(power[:3] + power[7:])  # heard from 1.5 to 3.5 s


@pytest.mark.parametrize("label", LABELS)
def test_a_sound_begins_and_ends_with_its_interval_and_what_is_only_seen_makes_none(label):
    background = render_sound(NOTHING, rng())
    seen = Scenario(4.0, (Occurrence(label, Interval(1.0, 2.3), None),))
    heard = Scenario(4.0, (Occurrence(label, None, Interval(1.0, 2.3)),))
    np.testing.assert_array_equal(render_sound(seen, rng()), background)

    added = np.flatnonzero(np.abs(render_sound(heard, rng()) - background) > 1e-3) / SAMPLING_RATE  # seconds
    assert 1.0 <= added[0] < 1.2
    assert 1.9 < added[-1] < 2.3


def _alarm_power(waveform: np.ndarray, start: float, seconds: float = 0.5) -> float:
    """Power in the band of the alarm, from `start` seconds on."""
    part = waveform[round(start * SAMPLING_RATE) : round((start + seconds) * SAMPLING_RATE)]
    frequency = np.fft.rfftfreq(len(part), 1 / SAMPLING_RATE)
    low, high = ALARM_BAND
    return float(np.square(np.abs(np.fft.rfft(part)))[(frequency >= low) & (frequency <= high)].sum())
