"""Preprocessing of RGB frames and optical flow for I3D.

The rules are those of v-iashin/video_features (models/i3d/extract_i3d.py and models/transforms.py, commit a2f61b7),
which made the features of UnAV-100.
"""

import numpy as np
import torch
from transformers import BatchFeature, ProcessorMixin

from esg_transformers.models.esg_net.sharing_esg_net import CodeOnPush

LARGEST_FLOW = 20.0  # pixels from a frame to the next; larger values are clipped
PRECISION = 22  # bits of a resizing weight


def resize_frame(frame: np.ndarray, shorter_side: int = 256) -> np.ndarray:
    """A frame scaled until its shorter side has a given length; the longer one keeps the ratio, rounded down.

    Linear interpolation over the pixels that a new pixel covers, first along rows, then along columns, each rounded to
    8 bits: bit for bit Pillow's `Image.resize(..., BILINEAR)` (src/libImaging/Resample.c), which upstream calls.

    Args:
        frame: uint8 `(H, W, 3)`.
        shorter_side: pixels.

    Returns:
        uint8 `(H', W', 3)`, the smaller of H' and W' being `shorter_side`.

    >>> resize_frame(np.full((240, 320, 3), 7, np.uint8)).shape
    (256, 341, 3)
    """
    height, width = frame.shape[:2]
    shorter = min(height, width)
    frame = _resize_rows(frame.swapaxes(0, 1), int(shorter_side * width / shorter)).swapaxes(0, 1)
    return _resize_rows(frame, int(shorter_side * height / shorter))


def center_crop(frames: np.ndarray, size: int = 224) -> np.ndarray:
    """The middle square of pictures `(..., H, W, C)`; where a margin is odd, the smaller half comes first.

    Raises:
        ValueError: if the pictures are smaller than the square.

    >>> center_crop(np.arange(25).reshape(5, 5, 1), size=2)[..., 0]
    array([[ 6,  7],
           [11, 12]])
    """
    height, width = frames.shape[-3:-1]
    if min(height, width) < size:
        raise ValueError(f"Pictures of {width} x {height} pixels have no square of {size}; resize them first.")
    top, left = (height - size) // 2, (width - size) // 2
    return frames[..., top : top + size, left : left + size, :]


def scale_rgb(frames: np.ndarray) -> np.ndarray:
    """Scale intensities from 0..255 to float32 -1..1.

    >>> scale_rgb(np.array([0, 51, 255], np.uint8))
    array([-1. , -0.6,  1. ], dtype=float32)
    """
    return 2 * frames.astype(np.float32) / 255 - 1


def scale_flow(flow: np.ndarray) -> np.ndarray:
    """Scale displacements in pixels to float32 -1 to about 1: clipped at 20 pixels, in steps of 40 / 255 pixel.

    The steps are those of an 8-bit picture in which 128 is no motion. video_features rounds but does not clip them, so
    that 20 pixels and more become 256. A half is rounded to the even number.

    >>> scale_flow(np.array([-30.0, -20.0, 0.0, 0.2, 20.0])).round(4)  # steps 0, 0, 128, 129 and 256
    array([-1.    , -1.    ,  0.0039,  0.0118,  1.0078], dtype=float32)
    """
    cut = np.clip(flow.astype(np.float32), -LARGEST_FLOW, LARGEST_FLOW)
    return 2 * np.round(128 + np.float32(255 / (2 * LARGEST_FLOW)) * cut) / 255 - 1


class I3dProcessor(ProcessorMixin, CodeOnPush):
    r"""
    Processor of the frames of one window for an [`I3dModel`].

    Args:
        stream (`str`, *optional*, defaults to `"rgb"`):
            `"rgb"` for pictures, `"flow"` for optical flow.
        shorter_side (`int`, *optional*, defaults to 256):
            Pixels of the shorter side that pictures are scaled to.
        crop_size (`int`, *optional*, defaults to 224):
            Side in pixels of the square that is cut from the middle.

    Raises:
        ValueError: if `stream` has another value, or the square is larger than the shorter side.
    """

    auto_class = "AutoProcessor"

    def __init__(self, stream: str = "rgb", shorter_side: int = 256, crop_size: int = 224):
        if stream not in ("rgb", "flow"):
            raise ValueError(f"`stream` must be 'rgb' or 'flow'; got {stream!r}.")
        if not 1 <= crop_size <= shorter_side:
            raise ValueError(
                f"`crop_size` ({crop_size}) must be at least 1 and at most `shorter_side` ({shorter_side})."
            )
        self.stream = stream
        self.shorter_side = shorter_side
        self.crop_size = crop_size
        super().__init__()  # type: ignore[no-untyped-call]  # of transformers

    @property
    def model_input_names(self) -> list[str]:
        """Names of the tensors that `__call__` returns."""
        return ["pixel_values"]

    def __call__(self, frames: np.ndarray) -> BatchFeature:
        """
        Args:
            frames: for the RGB stream, uint8 `(F, H, W, 3)` of any size; for the flow stream, `(F, H, W, 2)`, the
                motion of each pixel to the next frame, (right, down) in pixels of frames of `resize_frame`.

        Returns:
            `pixel_values`, float32 `(1, F, C, crop_size, crop_size)`.

        Raises:
            ValueError: if the frames have another shape or type.
        """
        frames = np.asarray(frames)
        channels = 3 if self.stream == "rgb" else 2
        if frames.ndim != 4 or frames.shape[-1] != channels or (channels == 3 and frames.dtype != np.uint8):
            expected = "uint8 (frames, height, width, 3)" if channels == 3 else "(frames, height, width, 2)"
            raise ValueError(f"Frames are {frames.dtype} {frames.shape}; the {self.stream} stream takes {expected}.")
        if self.stream == "rgb":
            resized = np.stack([resize_frame(frame, self.shorter_side) for frame in frames])
            scaled = scale_rgb(center_crop(resized, self.crop_size))
        else:
            scaled = scale_flow(center_crop(frames, self.crop_size))
        pixels = torch.from_numpy(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)))
        return BatchFeature({"pixel_values": pixels[None]})


def _resize_rows(frame: np.ndarray, num_rows: int) -> np.ndarray:
    """uint8 `(H, W, C)` to `(num_rows, W, C)`: each new row the weighted mean of those it covers."""
    if num_rows == len(frame):
        return frame
    scale = len(frame) / num_rows
    reach = max(scale, 1.0)  # rows on either side of the centre that count; two neighbours when enlarging
    centers = (np.arange(num_rows) + 0.5) * scale
    first = np.maximum((centers - reach + 0.5).astype(int), 0)
    last = np.minimum((centers + reach + 0.5).astype(int), len(frame))  # the row behind the last
    rows = first[:, None] + np.arange((last - first).max())  # (num_rows, rows that count)
    weights = np.maximum(1 - np.abs((rows - centers[:, None] + 0.5) * (1 / reach)), 0) * (rows < last[:, None])
    weights = (weights / weights.sum(axis=1, keepdims=True) * 2**PRECISION + 0.5).astype(np.int32)
    rows = np.minimum(rows, len(frame) - 1)
    total = np.full((num_rows, *frame.shape[1:]), 2 ** (PRECISION - 1), np.int32)  # a half, so that the shift rounds
    for tap in range(rows.shape[1]):
        total += weights[:, tap, None, None] * frame[rows[:, tap]]
    rounded: np.ndarray = np.clip(total >> PRECISION, 0, 255)
    return rounded.astype(np.uint8)


__all__ = ["I3dProcessor"]
