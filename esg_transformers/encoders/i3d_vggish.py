"""I3D on RGB frames and on RAFT optical flow, and VGGish: the networks of ESG-Net's features.

The authors of ESG-Net name I3D, VGGish and RAFT (README of their repository, commit b9e39c0, 2026-03-04). The modules
`i3d` and `vggish` state the networks and their rules, with sources. Decoding differs from v-iashin/video_features,
which re-encodes a video at 25 frames per second (lossy) and takes the frame nearest to each time; here it is the frame
that a player shows at that time (`media.video.read_frames`).
"""

import hashlib
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise, starmap, tee

import numpy as np
import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from esg_transformers.encoders.encoder import AudioVisualFeatures
from esg_transformers.encoders.i3d.modeling_i3d import I3dModel
from esg_transformers.encoders.i3d.processing_i3d import I3dProcessor, resize_frame
from esg_transformers.encoders.sliding_sound import SlidingSound
from esg_transformers.encoders.streaming import encode_in_blocks
from esg_transformers.encoders.vggish.modeling_vggish import VggishModel
from esg_transformers.encoders.vggish.processing_vggish import SAMPLING_RATE, VggishProcessor
from esg_transformers.media.container import MediaSource
from esg_transformers.models.esg_net.grid_esg_net import EncoderId, FeatureGrid, FeatureSpec

# `stack_size=24 step_size=8 extraction_fps=25` of v-iashin/video_features, by the author of UnAV-100
# (github.com/ttgeng233/UnAV/issues/7); a VGGish patch lasts as long as a window, 0.96 s.
GRID = FeatureGrid(frame_rate=25.0, stride=8, window=24)
PATCHES_AT_ONCE = 32  # 10 s of sound
FLOW_UPDATES = 20  # iterations of RAFT (models/raft/raft_src/raft.py, video_features a2f61b7)

OpticalFlow = Callable[[np.ndarray, np.ndarray], np.ndarray]


class I3dVggishEncoder:
    """Encoder: I3D features of RGB frames and of RAFT optical flow, concatenated, and VGGish features of the sound.

    Feature `g` covers the 24 frames from frame `8 g` on, at 25 frames per second, and the 0.96 s of sound that start
    with them. Files are encoded while they are decoded; one window of frames and 10 s of sound are in memory.

    ```python
    from esg_transformers import I3dModel, VggishModel
    from esg_transformers.encoders.i3d_vggish import I3dVggishEncoder

    rgb, flow = I3dModel.from_pretrained("i3d-rgb"), I3dModel.from_pretrained("i3d-flow")
    encoder = I3dVggishEncoder(rgb, flow, VggishModel.from_pretrained("vggish"))
    encoder("clip.mp4").visual.shape  # (steps, 2048)
    ```

    Args:
        i3d_rgb (`I3dModel`): I3D for RGB frames.
        i3d_flow (`I3dModel`, *optional*):
            I3D for optical flow. With `None` there are 1024 visual channels and no flow is estimated, which saves most
            of the time; the encoder then has another name, since its features fit other models.
        vggish (`VggishModel`): VGGish.
        optical_flow (`Callable`, *optional*):
            Function from (frame, next frame), uint8 `(H, W, 3)` each, to the motion between them, float32 `(H, W, 2)`,
            (right, down) in pixels. By default RAFT on the device of `i3d_flow`, see [`raft_optical_flow`].

    Raises:
        ValueError: if a model has the wrong number of input channels for its place.
        ImportError: if RAFT is needed and torchvision is not installed.
    """

    def __init__(
        self,
        i3d_rgb: I3dModel,
        i3d_flow: I3dModel | None,
        vggish: VggishModel,
        optical_flow: OpticalFlow | None = None,
    ):
        for place, model, num_channels in (("i3d_rgb", i3d_rgb, 3), ("i3d_flow", i3d_flow, 2)):
            if model is not None and model.config.num_channels != num_channels:
                raise ValueError(
                    f"`{place}` takes {model.config.num_channels} channels a frame; expected {num_channels}. "
                    "Check that the RGB and the flow model are not swapped."
                )
        if i3d_flow is not None and optical_flow is None:
            optical_flow = raft_optical_flow(i3d_flow.device)
        self.optical_flow = optical_flow
        self.i3d_rgb, self.i3d_flow, self.vggish = i3d_rgb, i3d_flow, vggish
        models: list[PreTrainedModel] = [network for network in (i3d_rgb, i3d_flow, vggish) if network is not None]
        for network in models:
            network.train(False)
        self.feature_spec = FeatureSpec(
            GRID,
            visual_size=sum(model.config.hidden_size for model in models[:-1]),
            audio_size=vggish.config.hidden_size,
            encoder=EncoderId("i3d_rgb-vggish" if i3d_flow is None else "i3d-vggish", f"1-{_fingerprint(models)}"),
        )

    def __call__(self, source: MediaSource) -> AudioVisualFeatures:
        """Features of a media file: no `audio` if it has no sound, no `visual` if it has no pictures.

        A stream that ends before the file is continued: the last picture is repeated, sound is followed by silence.

        Args:
            source: path of a media file, or its content.

        Raises:
            FileNotFoundError: if there is no file.
            ValueError: if it is not a media file, or neither pictures nor sound can be decoded.
        """
        [features] = self.blocks(source, sys.maxsize)
        return features

    def blocks(self, source: MediaSource, num_steps: int) -> Iterator[AudioVisualFeatures]:
        """Generator of the same features, `num_steps` steps at a time, in memory that does not grow with the file.

        Errors are raised when the first block is asked for.
        """
        return encode_in_blocks(source, GRID, num_steps, self.picture_features, self.sound_features, SAMPLING_RATE)

    def picture_features(self, frames: Iterable[np.ndarray], num_steps: int) -> Iterator[np.ndarray]:
        """Generator of I3D features of frames that are read once; 24 frames are in memory.

        Args:
            frames: uint8 `(H, W, 3)` at 25 frames per second, at least one; the last one is repeated at the end.
            num_steps: number of features.

        Yields:
            float32 `(visual_size,)` for each step: RGB, then flow.

        Raises:
            ValueError: if there are no frames.
        """
        # video_features drops a last window without its 25th frame, which only the flow needs.
        pictures: Iterator[np.ndarray] = (resize_frame(frame) for frame in _endlessly(frames))
        streams = [(self.i3d_rgb, I3dProcessor("rgb"), pictures)]
        if self.i3d_flow is not None and self.optical_flow is not None:
            pictures, following = tee(pictures)
            flow = starmap(self.optical_flow, pairwise(following))
            streams = [(self.i3d_rgb, I3dProcessor("rgb"), pictures), (self.i3d_flow, I3dProcessor("flow"), flow)]

        windows = [_windows(items, num_steps) for _, _, items in streams]
        for window_of_streams in zip(*windows, strict=True):
            features = [
                _features(model, processor(window)["pixel_values"])
                for (model, processor, _), window in zip(streams, window_of_streams, strict=True)
            ]
            yield np.concatenate(features, axis=1)[0]

    def sound_features(self, pieces: Iterable[np.ndarray], num_steps: int) -> Iterator[np.ndarray]:
        """Generator of VGGish features of sound that is read once, one for each window of 24 frames.

        Args:
            pieces: consecutive float32 `(S,)` in [-1, 1], 16 kHz, mono, as `read_sound` yields them; silence follows.
            num_steps: number of features.

        Yields:
            float32 `(audio_size,)` for each step.
        """
        processor, sound = VggishProcessor(hop_seconds=GRID.step), SlidingSound(pieces)
        for step in range(0, num_steps, PATCHES_AT_ONCE):
            first = step * processor.hop
            patches = sound.samples(first, first + processor.num_samples(min(PATCHES_AT_ONCE, num_steps - step)))
            yield from _features(self.vggish, processor(patches, SAMPLING_RATE)["input_features"])


def raft_optical_flow(device: torch.device | str = "cpu") -> OpticalFlow:
    """RAFT, the optical flow of ESG-Net's features (authors' repository, README, commit b9e39c0, 2026-03-04).

    The network is torchvision's, with the weights and the 20 iterations of v-iashin/video_features (commit a2f61b7):
    its `raft-sintel.pth` is torchvision's `Raft_Large_Weights.C_T_SKHT_V1`, which is downloaded on first use.

    Args:
        device: device that RAFT runs on.

    Returns:
        Function from (frame, next frame) to the motion between them, see [`I3dVggishEncoder`].

    Raises:
        ImportError: if torchvision is not installed.
    """
    try:
        from torchvision.models.optical_flow import (  # type: ignore[import-not-found, unused-ignore]
            Raft_Large_Weights,
            raft_large,
        )
    except ImportError as error:
        raise ImportError(
            "RAFT needs torchvision: `pip install torchvision`. To encode without optical flow, give `i3d_flow=None`."
        ) from error
    raft = raft_large(weights=Raft_Large_Weights.C_T_SKHT_V1).eval().to(device)

    @torch.inference_mode()
    def optical_flow(frame: np.ndarray, following: np.ndarray) -> np.ndarray:
        pictures = torch.from_numpy(np.stack([frame, following])).to(device).permute(0, 3, 1, 2)
        pictures = pad_to_multiple_of_8(2 * pictures.float() / 255 - 1)
        [flow] = raft(pictures[:1], pictures[1:], num_flow_updates=FLOW_UPDATES)[-1]
        return np.asarray(flow.permute(1, 2, 0).cpu())

    return optical_flow


def pad_to_multiple_of_8(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures `(N, C, H, W)` with edges repeated until 8 divides both sides; an odd pixel goes to the right or bottom.

    As in video_features, the flow keeps this padding when its middle is cropped, so it may be shifted a pixel from RGB.

    >>> pad_to_multiple_of_8(torch.zeros(1, 3, 256, 341)).shape
    torch.Size([1, 3, 256, 344])
    """
    rows, columns = (-size % 8 for size in pictures.shape[-2:])
    padding = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
    return F.pad(pictures, padding, mode="replicate")


def _endlessly(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """All frames, then the last one without end."""
    frame = None
    for frame in frames:
        yield frame
    if frame is None:
        raise ValueError("There are no frames; give at least one.")
    while True:
        yield frame


def _windows(items: Iterator[np.ndarray], num_windows: int) -> Iterator[np.ndarray]:
    """The items in the window of each feature, stacked: `(24, ...)`."""
    held: deque[np.ndarray] = deque(maxlen=GRID.window)
    for window in range(num_windows):
        for _ in range(GRID.stride if window else GRID.window):
            held.append(next(items))
        yield np.stack(held)


@torch.inference_mode()
def _features(model: PreTrainedModel, inputs: torch.Tensor) -> np.ndarray:
    pooled: torch.Tensor = model(inputs.to(model.device, model.dtype)).pooler_output
    return np.asarray(pooled.float().cpu())


def _fingerprint(models: list[PreTrainedModel]) -> str:
    """Eight hexadecimal digits of a digest of the weights."""
    digest = hashlib.sha256()
    for model in models:
        for tensor in model.state_dict().values():
            digest.update(tensor.float().cpu().contiguous().numpy())
    return digest.hexdigest()[:8]
