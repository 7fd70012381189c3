"""I3D and VGGish together: features such as UnAV-100 was published with.

The two networks and their rules are those of the published features, see the modules in `i3d` and `vggish`. Decoding
is this package's: upstream encodes a video anew at 25 frames per second, which loses a little, and takes the frame
nearest to each time; here it is the frame that a player shows at that time (`media.video.read_frames`).
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
    """I3D features of what is seen, RGB and optical flow side by side, and VGGish features of what is heard.

    Feature `g` sees the 24 frames from frame `8 g` on, at 25 frames per second, and hears the 0.96 s that begin with
    them. Pictures and sound are encoded as they are decoded; a window of pictures and 10 s of sound are held.

    ```python
    from esg_transformers import I3dModel, VggishModel
    from esg_transformers.encoders.i3d_vggish import I3dVggishEncoder

    rgb, flow = I3dModel.from_pretrained("i3d-rgb"), I3dModel.from_pretrained("i3d-flow")
    encoder = I3dVggishEncoder(rgb, flow, VggishModel.from_pretrained("vggish"))
    encoder("clip.mp4").visual.shape  # (steps, 2048)
    ```

    Args:
        i3d_rgb (`I3dModel`): I3D for pictures.
        i3d_flow (`I3dModel`, *optional*):
            I3D for optical flow. With `None` there are 1024 visual channels and no flow is estimated, which takes most
            of the time; the encoder then has another name, since its features go with other models.
        vggish (`VggishModel`): VGGish.
        optical_flow (`Callable`, *optional*):
            Motion between two frames: (frame, next frame), uint8 `(H, W, 3)` each, to float32 `(H, W, 2)`, (right,
            down) in pixels. By default [`raft_optical_flow`], on the device of `i3d_flow`.

    Raises:
        ValueError: if a model takes other inputs than its place gives.
        ImportError: if optical flow is asked for and torchvision is not installed.
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
                    "Are the RGB and the flow model in each other's place?"
                )
        if i3d_flow is not None and optical_flow is None:
            optical_flow = raft_optical_flow(i3d_flow.device)
        self.optical_flow = optical_flow
        self.i3d_rgb, self.i3d_flow, self.vggish = i3d_rgb, i3d_flow, vggish
        models = [model.eval() for model in (i3d_rgb, i3d_flow, vggish) if model is not None]
        self.feature_spec = FeatureSpec(
            GRID,
            visual_size=sum(model.config.hidden_size for model in models[:-1]),
            audio_size=vggish.config.hidden_size,
            encoder=EncoderId("i3d_rgb-vggish" if i3d_flow is None else "i3d-vggish", f"1-{_fingerprint(models)}"),
        )

    def __call__(self, source: MediaSource) -> AudioVisualFeatures:
        """Features of a media file; a file without sound has no `audio`, one without pictures no `visual`.

        Where one of the two is shorter than the file, its last picture stays, or silence follows.

        Args:
            source: the path of a media file, or its bytes.

        Raises:
            FileNotFoundError: if there is no file.
            ValueError: if it is not a media file, or if it has neither pictures nor sound that decode.
        """
        [features] = self.blocks(source, sys.maxsize)
        return features

    def blocks(self, source: MediaSource, num_steps: int) -> Iterator[AudioVisualFeatures]:
        """The same features, `num_steps` steps at a time, the last block being what is left.

        What is held of a file does not grow with its length. Errors come when the first block is asked for.
        """
        return encode_in_blocks(source, GRID, num_steps, self.picture_features, self.sound_features, SAMPLING_RATE)

    def picture_features(self, frames: Iterable[np.ndarray], num_steps: int) -> Iterator[np.ndarray]:
        """I3D features of frames that are read once, 24 being kept.

        Args:
            frames: uint8 `(H, W, 3)` at 25 frames per second, at least one; after the last, it stays.
            num_steps: features to give.

        Yields:
            float32 `(visual_size,)` for each step: RGB, then flow.

        Raises:
            ValueError: if there are no frames.
        """
        # Upstream leaves out a last window whose 25th frame, which only the flow needs, is missing.
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

    def sound_features(self, stretches: Iterable[np.ndarray], num_steps: int) -> Iterator[np.ndarray]:
        """VGGish features of sound that is read once, one for each window of 24 frames.

        Args:
            stretches: float32 `(S,)` in [-1, 1], 16 kHz, mono, one after another as `read_sound` gives them; silence
                follows where the features need more.
            num_steps: features to give.

        Yields:
            float32 `(audio_size,)` for each step.
        """
        processor, sound = VggishProcessor(hop_seconds=GRID.step), SlidingSound(stretches)
        for step in range(0, num_steps, PATCHES_AT_ONCE):
            first = step * processor.hop
            patches = sound.span(first, first + processor.num_samples(min(PATCHES_AT_ONCE, num_steps - step)))
            yield from _features(self.vggish, processor(patches, SAMPLING_RATE)["input_features"])


def raft_optical_flow(device: torch.device | str = "cpu") -> OpticalFlow:
    """RAFT of torchvision, with the weights and the 20 iterations of v-iashin/video_features (commit a2f61b7): its
    `raft-sintel.pth` is torchvision's `Raft_Large_Weights.C_T_SKHT_V1`, which is downloaded where it is not yet.

    video_features has used RAFT alone since commit 40c3f29 (January 2024), and PWC-Net before unless told otherwise;
    which of the two UnAV-100's features have seen is not told with them.

    Args:
        device: where it runs.

    Returns:
        a function of (frame, next frame), see [`I3dVggishEncoder`].

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
            "Optical flow needs torchvision: `pip install torchvision`. Or encode pictures alone, with `i3d_flow=None`."
        ) from error
    raft = raft_large(weights=Raft_Large_Weights.C_T_SKHT_V1).eval().to(device)

    @torch.inference_mode()
    def optical_flow(frame: np.ndarray, following: np.ndarray) -> np.ndarray:
        pictures = torch.from_numpy(np.stack([frame, following])).to(device).permute(0, 3, 1, 2)
        pictures = pad_to_multiple_of_8(2 * pictures.float() / 255 - 1)
        [flow] = raft(pictures[:1], pictures[1:], num_flow_updates=FLOW_UPDATES)[-1]
        return flow.permute(1, 2, 0).cpu().numpy()

    return optical_flow


def pad_to_multiple_of_8(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures `(N, C, H, W)` with their edges repeated until both sides divide by 8, an odd pixel behind.

    The padding stays on the flow when its middle is cut out, as upstream, so that flow may lie a pixel beside RGB.

    >>> pad_to_multiple_of_8(torch.zeros(1, 3, 256, 341)).shape
    torch.Size([1, 3, 256, 344])
    """
    rows, columns = (-size % 8 for size in pictures.shape[-2:])
    padding = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
    return F.pad(pictures, padding, mode="replicate")


def _endlessly(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """All frames, and the last one on and on."""
    frame = None
    for frame in frames:
        yield frame
    if frame is None:
        raise ValueError("There are no frames; give at least one.")
    while True:
        yield frame


def _windows(items: Iterator[np.ndarray], num_windows: int) -> Iterator[np.ndarray]:
    """The items that each feature of the grid has seen, stacked: `(24, ...)`."""
    held: deque[np.ndarray] = deque(maxlen=GRID.window)
    for window in range(num_windows):
        for _ in range(GRID.stride if window else GRID.window):
            held.append(next(items))
        yield np.stack(held)


@torch.inference_mode()
def _features(model: PreTrainedModel, inputs: torch.Tensor) -> np.ndarray:
    return model(inputs.to(model.device, model.dtype)).pooler_output.float().cpu().numpy()


def _fingerprint(models: list[PreTrainedModel]) -> str:
    """Eight digits that change with the weights."""
    digest = hashlib.sha256()
    for model in models:
        for tensor in model.state_dict().values():
            digest.update(tensor.float().cpu().contiguous().numpy())
    return digest.hexdigest()[:8]
