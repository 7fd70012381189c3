"""A sliding buffer of sound, for encoders that read files of any length in little memory."""

from collections.abc import Iterable

import numpy as np


class SlidingSound:
    """Sound that is read once and cut into intervals in order; intervals may overlap or have gaps between them.

    It holds the samples of the last interval and the rest of the piece that was read last.

    Args:
        pieces: consecutive float32 `(S,)` of any lengths, as `read_sound` yields them; each is read when needed.

    >>> sound = SlidingSound([np.array([0.1, 0.2, 0.3], np.float32), np.array([0.4, 0.5], np.float32)])
    >>> sound.samples(1, 4)
    array([0.2, 0.3, 0.4], dtype=float32)
    >>> sound.samples(3, 7)
    array([0.4, 0.5, 0. , 0. ], dtype=float32)
    """

    def __init__(self, pieces: Iterable[np.ndarray]):
        self._pieces = iter(pieces)
        self._held = np.empty(0, np.float32)
        self._first = 0  # position of the first sample held
        self._read = 0  # samples read so far

    def samples(self, first: int, last: int) -> np.ndarray:
        """Samples `first` to before `last`, counted from 0; silence after the end of the sound.

        Returns:
            float32 `(last - first,)`, a copy.

        Raises:
            ValueError: if `first` is less than in an earlier call.
        """
        if first < self._first:
            raise ValueError(
                f"Sample {first} is no longer held: samples from {self._first} on have been taken. Take them in order."
            )
        parts = [self._held[first - self._first :]]
        while self._read < last and (piece := next(self._pieces, None)) is not None:
            if self._read + len(piece) > first:  # a slice, even an empty one, keeps the whole piece in memory
                parts.append(piece[max(first - self._read, 0) :])
            self._read += len(piece)
        self._held, self._first = np.concatenate(parts), first
        samples = self._held[: last - first]
        return np.pad(samples, (0, last - first - len(samples)))
