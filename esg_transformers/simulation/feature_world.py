"""The world of simulated features: class prototypes in a latent space, and the map from there to channels."""

import zlib
from dataclasses import dataclass

import numpy as np

MAX_TEXT_RANK, GROUPED_RANK = 96, 48  # dimensions that prototypes span, with and without text embeddings
BACKGROUND_SIZE = 24  # further dimensions, which only backgrounds span


@dataclass(frozen=True)
class FeatureWorld:
    """Everything that the videos of one seed share. There are C classes and two streams, the visual one first.

    Args:
        prototypes: by stream, `(C, rank)`, rows of norm 1.
        similar: `(C, C)`; row `c` holds the probability of each class to be mixed into an occurrence of class `c`.
        decoders: by stream, `(latent size, channels)`; the first `rank` latent dimensions are those of the prototypes.
        offsets: by stream, `(channels,)`.
        nonnegative: True if features are clipped at 0.
        salt: number in the seeds of the noise; it differs with and without text embeddings.
    """

    prototypes: tuple[np.ndarray, ...]
    similar: np.ndarray
    decoders: tuple[np.ndarray, ...]
    offsets: tuple[np.ndarray, ...]
    nonnegative: bool
    salt: int


def draw_world(num_classes: int, sizes: tuple[int, int], embeddings: np.ndarray | None, seed: int) -> FeatureWorld:
    """Draw a world.

    Args:
        num_classes: C, >= 2.
        sizes: channels of the visual and the audio stream.
        embeddings: text embeddings of C labels or more, float64 `(labels, channels)`, if both streams lie in their
            space. Classes are then as similar as their embeddings; without them, classes form similar groups.
        seed: seed of all draws, >= 0.
    """
    salt = zlib.crc32(b"i3d" if embeddings is None else b"onepeace")  # another salt would change the features of a seed
    rng = np.random.default_rng([seed, 7, salt])
    axes = None if embeddings is None else _principal_axes(embeddings[:num_classes])
    if embeddings is None or axes is None:
        common = _draw_groups(rng, num_classes)
    else:
        common = unit((embeddings[:num_classes] - embeddings[:num_classes].mean(0)) @ axes.T)
    # The streams share a class only in part.
    prototypes = tuple(unit(common + 0.6 * unit(rng.standard_normal(common.shape))) for _ in sizes)
    similarity = common @ common.T
    np.fill_diagonal(similarity, -np.inf)
    odds = np.exp(similarity / 0.15)
    decoders, offsets = [], []
    for size in sizes:
        decoder = rng.standard_normal((common.shape[1] + BACKGROUND_SIZE, size)) / np.sqrt(size)
        if embeddings is None or axes is None:
            decoder *= 1 + 0.5 * rng.standard_normal((1, size))
            low, width = (-0.02, 0.03) if size > 256 else (-0.06, 0.10)
            offset = low + width * rng.random(size)
        else:
            decoder[: len(axes)] = axes
            # Features lie near the text embeddings, at the distance of a modality gap.
            offset = 0.8 * unit(embeddings.mean(0)) + 0.4 * unit(rng.standard_normal(size))
        decoders.append(decoder)
        offsets.append(offset)
    similar = odds / odds.sum(1, keepdims=True)
    return FeatureWorld(prototypes, similar, tuple(decoders), tuple(offsets), embeddings is None, salt)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors scaled to norm 1 along the last dimension."""
    scaled: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-8)
    return scaled


def _principal_axes(embeddings: np.ndarray) -> np.ndarray:
    """Directions in which C embeddings differ most, orthonormal rows, `(min(C - 1, MAX_TEXT_RANK), channels)`."""
    axes: np.ndarray = np.linalg.svd(embeddings - embeddings.mean(0), full_matrices=False)[2]
    return axes[: min(len(embeddings) - 1, MAX_TEXT_RANK)]


def _draw_groups(rng: np.random.Generator, num_classes: int) -> np.ndarray:
    """Draw a vector of norm 1 for each class, `(C, GROUPED_RANK)`; about five classes form a similar group."""
    groups = rng.integers(0, max(num_classes // 5, 1), num_classes)
    centres = unit(rng.standard_normal((groups.max() + 1, GROUPED_RANK)))
    return unit(0.75 * centres[groups] + unit(rng.standard_normal((num_classes, GROUPED_RANK))))
