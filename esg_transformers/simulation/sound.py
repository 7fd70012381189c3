"""Sound of a workshop clip: a background, and one synthetic sound per class."""

import numpy as np
from numpy.typing import NDArray

from esg_transformers.simulation.scenario import LABELS, SWING, Scenario

SAMPLING_RATE = 16_000  # Hz
ALARM_BAND = (1500, 2600)  # Hz; the tones of every alarm lie in this band


def render_sound(scenario: Scenario, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the waveform of a clip: float32 `(S,)`, mono, at `SAMPLING_RATE`, in [-1, 1].

    `rng` draws the background first, so the background does not depend on the scenario.
    """
    waveform = _background(round(scenario.duration * SAMPLING_RATE), rng)
    sounds = dict(zip(LABELS, (_alarm, _slam, _hum, _voice), strict=True))
    for occurrence in scenario.occurrences:
        if occurrence.heard is not None:
            start, end = (round(second * SAMPLING_RATE) for second in occurrence.heard)
            time = np.arange(end - start) / SAMPLING_RATE
            sound = sounds[occurrence.label](time, rng)
            # Unit RMS, or less if the peak would exceed 4: a bang of unit RMS would be clipped.
            sound /= max(np.sqrt(np.mean(sound**2)), np.abs(sound).max() / 4)
            fade = np.minimum(1, np.minimum(time, time[::-1]) / 0.03)  # 30 ms
            waveform[start:end] += 0.12 * 10.0 ** (rng.uniform(-5, 3) / 20) * fade * sound
    return waveform.clip(-1, 1).astype(np.float32)


def _background(num_samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Broadband noise, the tone of the room and mains hum; the sum is 5 to 25 dB below the events."""
    time, frequency = np.arange(num_samples) / SAMPLING_RATE, np.fft.rfftfreq(num_samples, 1 / SAMPLING_RATE)
    broadband = (frequency + 20) ** -rng.uniform(0.2, 0.8)
    tone = rng.uniform(0, 0.5) * np.exp(-(((frequency - rng.uniform(150, 400)) / 80) ** 2))
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(num_samples)) * (broadband + tone), num_samples)
    mains = np.zeros(num_samples)
    for k in (1, 2, 3, 5):
        mains += rng.uniform(0, 1) / k * np.sin(2 * np.pi * 50 * k * time)
    background = noise / float(noise.std()) + mains
    level: float = 0.12 * 10.0 ** (rng.uniform(-25, -5) / 20)
    return level * background / float(background.std())


def _alarm(time: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Two alternating tones, both in `ALARM_BAND`."""
    pitch = rng.uniform(1600, 2000) * np.where(time * rng.uniform(1.5, 3) % 1 < 0.5, 1.0, 1.25)  # Hz
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLING_RATE
    return np.sin(phase) + 0.2 * np.sin(3 * phase)


def _slam(time: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """A rush of air that grows for `SWING` seconds, a bang, and decaying rattles."""
    noise = rng.standard_normal(len(time))
    sound = np.where(time < SWING, 0.6 * time / SWING, 0) * noise
    for delay, strength in ((0.0, 2.0), (0.11, 0.7), (0.2, 0.5), (0.27, 0.35), (0.33, 0.25)):
        since = time - SWING - delay
        decay = np.where(since >= 0, strength * np.exp(-np.maximum(since, 0) / 0.05), 0)
        sound += decay * (noise + 1.5 * np.sin(2 * np.pi * 85 * since))
    return sound


def _hum(time: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Harmonics of a motor and hiss, both modulated at a sixth of the motor's speed."""
    speed = 2 * np.pi * rng.uniform(42, 75)  # radians per second
    motor: NDArray[np.float64] = sum(np.sin(k * speed * time + rng.uniform(0, 6)) / k**0.7 for k in range(1, 13))
    return (1 + 0.4 * np.sin(speed / 6 * time)) * (motor + 0.5 * rng.standard_normal(len(time)))


def _voice(time: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Syllables with pauses: pulses of the vocal folds, filtered by the three formants of a vowel."""
    vowels = ((730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240))  # Hz
    pitch = rng.uniform(95, 220)  # Hz
    tract = rng.uniform(0.95, 1.15)  # factor on the formants; > 1 for a shorter vocal tract
    sound = np.zeros(len(time))
    start = 0
    while start < len(time):
        length = min(int(rng.uniform(0.12, 0.28) * SAMPLING_RATE), len(time) - start)
        glide = pitch * rng.uniform(0.9, 1.2) * np.linspace(1.05, 0.9, length)  # Hz
        pulses = np.diff(np.floor(np.cumsum(glide) / SAMPLING_RATE), prepend=0) + 0.02 * rng.standard_normal(length)
        frequency = np.fft.rfftfreq(length, 1 / SAMPLING_RATE)
        formants = zip(vowels[rng.integers(len(vowels))], (1.0, 0.6, 0.3), (80, 100, 140), strict=True)
        gain = sum(level / (1 + ((frequency - tract * centre) / width) ** 2) for centre, level, width in formants)
        sound[start : start + length] = np.fft.irfft(np.fft.rfft(pulses) * gain, length) * np.hanning(length)
        start += length + int(rng.choice([0.02, 0.05, 0.2], p=[0.5, 0.4, 0.1]) * SAMPLING_RATE)
    return sound
