"""Sound that passes by, for encoders that read a file of any length and hold little of it."""

from collections.abc import Iterable

import numpy as np


class SlidingSound:
    """A sound that is read once, from which spans are taken in order; they may overlap or leave some out.

    Held are the samples of the last span and, behind it, what is left of the stretch that was read last.

    Args:
        stretches: float32 `(S,)` each, of any lengths: the samples from the first on, such as `read_sound` gives them.
            They are read when a span asks for them.

    >>> sound = SlidingSound([np.array([0.1, 0.2, 0.3], np.float32), np.array([0.4, 0.5], np.float32)])
    >>> sound.span(1, 4)
    array([0.2, 0.3, 0.4], dtype=float32)
    >>> sound.span(3, 7)
    array([0.4, 0.5, 0. , 0. ], dtype=float32)
    """

    def __init__(self, stretches: Iterable[np.ndarray]):
        self._stretches = iter(stretches)
        self._held = np.empty(0, np.float32)
        self._first = 0  # position of the first sample held
        self._read = 0  # samples read so far

    def span(self, first: int, last: int) -> np.ndarray:
        """Samples `first` to before `last`, counted from 0; there is silence where the sound has ended.

        Returns:
            float32 `(last - first,)`, a copy.

        Raises:
            ValueError: if `first` lies before that of an earlier span.
        """
        if first < self._first:
            raise ValueError(f"Sample {first} is gone: a span from {self._first} on was taken. Take spans in order.")
        pieces = [self._held[first - self._first :]]
        while self._read < last and (stretch := next(self._stretches, None)) is not None:
            if self._read + len(stretch) > first:  # a slice, even an empty one, would keep all of it
                pieces.append(stretch[max(first - self._read, 0) :])
            self._read += len(stretch)
        self._held, self._first = np.concatenate(pieces), first
        span = self._held[: last - first]
        return np.pad(span, (0, last - first - len(span)))
