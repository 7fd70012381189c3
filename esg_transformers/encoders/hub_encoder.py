"""Encoder of two transformers models, one for pictures and one for sound, on one feature grid.

The features are this package's, after common practice: each model is called as its class documents, and its outputs
are averaged over the window of each feature. [`HubEncoder`] states the rules. For a network that is not in
transformers, write an encoder; `README.md` in this folder shows how.
"""

import hashlib
import inspect
import json
import math
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoModel,
    AutoVideoProcessor,
    PreTrainedModel,
    VideoMAEImageProcessorPil,
)

from esg_transformers.encoders.encoder import AudioVisualFeatures
from esg_transformers.encoders.sliding_sound import SlidingSound
from esg_transformers.encoders.streaming import encode_in_blocks
from esg_transformers.files import blocks_of
from esg_transformers.hub import downloaded_model
from esg_transformers.media.container import MediaSource
from esg_transformers.models.esg_net.grid_esg_net import EncoderId, FeatureGrid, FeatureSpec

GRID = FeatureGrid(frame_rate=16, stride=4, window=16)  # as for ONE-PEACE: a feature every 0.25 s that covers 1 s

VIDEO_METHODS = ("get_video_features", "get_vision_features")  # X-CLIP; V-JEPA 2
IMAGE_METHODS = ("get_image_features",)  # CLIP, SigLIP
AUDIO_METHODS = ("get_audio_features", "get_audio_embeds")  # CLAP; PE-AV

# Video processors, written for torchvision, that only apply the settings below to each picture.
PICTURE_BY_PICTURE = ("TimesformerVideoProcessor", "VideoMAEVideoProcessor", "VJEPA2VideoProcessor")
SIZES = ("do_resize", "size", "resample", "do_center_crop", "crop_size")
VALUES = ("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std")

CONFIGS = ("config.json", "preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")
WEIGHTS = ("model*.safetensors", "model.safetensors.index.json")  # patterns

PICTURES_AT_ONCE = 32
WINDOWS_AT_ONCE = 8  # of sound
LONGEST_SOUND = 30.0  # seconds in one call of a model that outputs frames; the input length of Whisper
SHORTEST_SOUND = 0.1  # seconds, enough for a few spectra

Item = TypeVar("Item")
Forward = Callable[..., Any]  # of a network, to its outputs


class HubEncoder:
    """Encoder: an image or video model, and an audio model, of transformers.

    **Visual model.** A video model gets the pictures of each window as a clip: as many pictures as it takes, evenly
    spaced. Video models have `get_video_features` or `get_vision_features` (X-CLIP, V-JEPA 2), or a number of frames in
    their config (VideoMAE, TimeSformer). An image model gets each picture once, and its outputs are averaged over each
    window. Image models have `get_image_features` (CLIP, SigLIP), or the main input `pixel_values` (DINOv2, ViT).
    Pictures are prepared with PIL if the model allows it, even if torchvision is installed: results differ slightly.

    **Audio model.** It has `get_audio_features` or `get_audio_embeds` (CLAP, PE-AV), or sound as its main input (AST,
    wav2vec2, HuBERT, the encoder of Whisper). A model that outputs one vector for a sound gets each window by itself. A
    model that outputs a sequence of frames gets up to 30 s of windows at once, and its frames are averaged over each
    window: a feature then describes its window, with some context from around it.

    The output is `pooler_output` if its weights are trained, and otherwise `last_hidden_state`, averaged over the
    tokens of a picture.

    Files are encoded while they are decoded; memory does not grow with their length.

    ```python
    encoder = HubEncoder("openai/clip-vit-base-patch32", "MIT/ast-finetuned-audioset-10-10-0.4593")
    encoder("clip.mp4").visual.shape  # (steps, 512)
    ```

    The version in `feature_spec.encoder` names both models, `<name>@<digest>`: the last part of the repository or
    folder, and a digest of the weights and of the settings of model and processor. Two models never share a version; a
    model keeps its version when it is copied from the Hub to a folder of the same name.

    Args:
        visual_model (`str`, *optional*):
            A folder that `save_pretrained` wrote, which is read without network, or a repository of the Hub,
            `OWNER/NAME`. `None` for an encoder of sound alone: its features have no `visual`, and `visual_size` is 1,
            the least that a localization model takes.
        audio_model (`str`, *optional*): as `visual_model`.
        grid (`FeatureGrid`, *optional*): by default a feature every 0.25 s that covers 1 s at 16 frames per second.
        device (`torch.device` or `str`, *optional*): device that the models run on, in float32.

    Raises:
        FileNotFoundError: if a model is neither a folder nor the name of a repository, or lacks a file.
        OSError: if a model cannot be downloaded.
        ImportError: if pictures can only be prepared with torchvision, and it is not installed.
        ValueError: if both models are `None`, one cannot be loaded or is of another kind, or the audio model does not
            take sounds as long as a window of the grid.
    """

    def __init__(
        self,
        visual_model: str | None,
        audio_model: str | None,
        grid: FeatureGrid = GRID,
        device: torch.device | str = "cpu",
    ):
        if visual_model is None and audio_model is None:
            raise ValueError("`visual_model` and `audio_model` are both None. Give at least one of the two.")
        self._see = None if visual_model is None else PictureModel(visual_model, grid, device)
        self._hear = None if audio_model is None else SoundModel(audio_model, grid, device)
        # The number is the version of this package's rules, such as the choice of pictures for a clip.
        version = "1-" + "+".join(part.identity if part else "none" for part in (self._see, self._hear))
        self.feature_spec = FeatureSpec(
            grid,
            visual_size=self._see.size if self._see else 1,
            audio_size=self._hear.size if self._hear else 1,
            encoder=EncoderId("hub", version),
        )

    def __call__(self, source: MediaSource) -> AudioVisualFeatures:
        """Features of a media file: no `audio` if it has no sound, no `visual` if it has no pictures.

        A stream that ends before the file is continued: the last picture is repeated, sound is followed by silence.

        Args:
            source: path of a media file, or its content.

        Raises:
            FileNotFoundError: if there is no file.
            ValueError: if it is not a media file, or has no stream that can be decoded and encoded.
        """
        [features] = self.blocks(source, sys.maxsize)
        return features

    def blocks(self, source: MediaSource, num_steps: int) -> Iterator[AudioVisualFeatures]:
        """Generator of the same features, `num_steps` steps at a time, in memory that does not grow with the file.

        Errors are raised when the first block is asked for.
        """
        sampling_rate = self._hear.sampling_rate if self._hear else 0
        return encode_in_blocks(source, self.feature_spec.grid, num_steps, self._see, self._hear, sampling_rate)


class PictureModel:
    """Image or video model that turns pictures into features on a grid; see [`HubEncoder`].

    Attributes:
        identity (`str`): `<name>@<digest>`, see [`HubEncoder`].
        size (`int`): features per step.
    """

    def __init__(self, model: str, grid: FeatureGrid, device: torch.device | str):
        folder = model_folder(model)
        self.identity = model_identity(model, folder)
        self._grid, self._device = grid, device
        network, self._has_pooler = _load(model, folder, device)
        is_video = any(hasattr(network, method) for method in VIDEO_METHODS)
        # In a model for pictures and text, the vision part has its own config.
        config = getattr(network.config, "vision_config", network.config)
        num_frames = getattr(config, "num_frames", None)
        if is_video or num_frames:
            num_frames = num_frames or min(grid.window, getattr(config, "frames_per_clip", grid.window))
            self._clip = np.linspace(0, grid.window - 1, num_frames).round().astype(int).tolist()
        else:
            self._clip = None
        self._forward = _entry(
            model, network, VIDEO_METHODS + IMAGE_METHODS, ("pixel_values", "pixel_values_videos"), "picture"
        )
        self._processor = _picture_processor(model, folder, is_video=self._clip is not None)
        blank = np.zeros((64, 64, 3), np.uint8)
        trial = self._outputs([blank if self._clip is None else [blank] * len(self._clip)] * 2)
        self.size = _size(model, trial)

    def __call__(self, frames: Iterable[np.ndarray], num_steps: int) -> Iterator[np.ndarray]:
        """Generator of the features of pictures that are read once; the pictures of one window are in memory.

        Args:
            frames: uint8 `(H, W, 3)` RGB at the frame rate of the grid, at least one; the last is repeated at the end.
            num_steps: number of features.

        Yields:
            float32 `(size,)` for each step.
        """
        if self._clip is None:
            looks = self._encoded(frames, PICTURES_AT_ONCE)
            yield from (np.mean(window, axis=0) for window in _windows(looks, self._grid, num_steps))
        else:
            clips = ([window[n] for n in self._clip] for window in _windows(frames, self._grid, num_steps))
            yield from self._encoded(clips, max(PICTURES_AT_ONCE // len(self._clip), 1))

    def _encoded(self, items: Iterable[Any], batch_size: int) -> Iterator[np.ndarray]:
        """`(size,)` for each picture or clip."""
        for batch in _batches(items, batch_size):
            yield from _averaged(self._outputs(batch))

    def _outputs(self, batch: list[Any]) -> np.ndarray:
        inputs = dict(self._processor(batch, return_tensors="pt", input_data_format="channels_last"))
        if "pixel_values_videos" in inspect.signature(self._forward).parameters and "pixel_values" in inputs:
            inputs["pixel_values_videos"] = inputs.pop("pixel_values")
        return _run(self._forward, inputs, self._device, self._has_pooler)


class SoundModel:
    """Audio model that turns sound into features on a grid; see [`HubEncoder`].

    Attributes:
        identity (`str`): `<name>@<digest>`, see [`HubEncoder`].
        size (`int`): features per step.
        sampling_rate (`int`): samples per second of the sound it takes.
    """

    def __init__(self, model: str, grid: FeatureGrid, device: torch.device | str):
        folder = model_folder(model)
        self.identity = model_identity(model, folder)
        self._grid, self._device = grid, device
        network, self._has_pooler = _load(model, folder, device)
        if network.config.is_encoder_decoder:
            network = network.get_encoder()
        self._forward = _entry(model, network, AUDIO_METHODS, ("input_values", "input_features"), "sound")
        try:
            self._extractor = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ValueError(f"The feature extractor of {model} cannot be loaded: {_one_line(error)}") from error
        self.sampling_rate: int = self._extractor.sampling_rate
        self._fixed_seconds = _fixed_seconds(self._extractor)
        self._window_seconds = grid.window / grid.frame_rate
        longest = min(LONGEST_SOUND, self._fixed_seconds or LONGEST_SOUND)
        if not SHORTEST_SOUND <= self._window_seconds <= longest:
            raise ValueError(
                f"A window of the grid lasts {self._window_seconds:g} s; {model} takes {SHORTEST_SOUND:g} to "
                f"{longest:g} s of sound. Choose another window."
            )
        self._windows_together = int(round((longest - self._window_seconds) / grid.step, 6)) + 1
        trial = self._outputs([np.zeros(round(self._window_seconds * self.sampling_rate), np.float32)] * 2)
        self._makes_frames = trial.ndim == 3
        self.size = _size(model, trial)

    def __call__(self, pieces: Iterable[np.ndarray], num_steps: int) -> Iterator[np.ndarray]:
        """Generator of the features of sound that is read once; 30 s or 8 windows of it are in memory.

        Args:
            pieces: consecutive float32 `(S,)` in [-1, 1], mono, at `sampling_rate`; silence follows.
            num_steps: number of features.

        Yields:
            float32 `(size,)` for each step.
        """
        sound = SlidingSound(pieces)
        for steps in _batches(range(num_steps), self._windows_together if self._makes_frames else WINDOWS_AT_ONCE):
            if self._makes_frames:
                yield from self._joint_features(self._samples(sound, steps), len(steps))
            else:
                yield from self._outputs([self._samples(sound, [step]) for step in steps])

    def _joint_features(self, samples: np.ndarray, num_steps: int) -> Iterator[np.ndarray]:
        """`(size,)` for each of some consecutive steps, from the frames that the model outputs for all of them."""
        [frames] = self._outputs([samples])  # (F, size)
        # The frames divide the time of the input evenly; those centred in a window are averaged.
        frames_per_second = len(frames) / (self._fixed_seconds or len(samples) / self.sampling_rate)
        for index in range(num_steps):
            start = index * self._grid.step
            first, last = (
                math.ceil(round(seconds * frames_per_second - 0.5, 6))
                for seconds in (start, start + self._window_seconds)
            )
            first = min(first, len(frames) - 1)
            yield frames[first : max(last, first + 1)].mean(axis=0)

    def _samples(self, sound: SlidingSound, steps: Sequence[int]) -> np.ndarray:
        """Samples from the start of the first window to the end of the last; silence after the end of the sound."""
        first = round(steps[0] * self._grid.step * self.sampling_rate)
        length = round(((len(steps) - 1) * self._grid.step + self._window_seconds) * self.sampling_rate)
        return sound.samples(first, first + length)

    def _outputs(self, sounds: list[np.ndarray]) -> np.ndarray:
        inputs = dict(self._extractor(sounds, sampling_rate=self.sampling_rate, return_tensors="pt"))
        return _run(self._forward, inputs, self._device, self._has_pooler)


def model_folder(model: str) -> Path:
    """Folder of a model that an encoder can load; see [`~hub.downloaded_model`].

    Raises:
        FileNotFoundError: if `model` is neither a folder nor the name of a repository, or lacks config or safetensors.
        OSError: if it cannot be downloaded.
    """
    folder = downloaded_model(model, [*CONFIGS, *WEIGHTS])
    for pattern in (CONFIGS[0], WEIGHTS[0]):
        if not any(folder.glob(pattern)):
            raise FileNotFoundError(f"{model} has no {pattern}. Save the model with `save_pretrained` to a folder.")
    return folder


def model_identity(model: str, folder: Path) -> str:
    """`<name>@<digest>`: the last part of `model`, and 12 digits of the SHA-256 of its configs and weights."""
    digest = hashlib.sha256()
    for pattern in (*CONFIGS, *WEIGHTS):
        for path in sorted(folder.glob(pattern)):
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
            for block in blocks_of(path):
                digest.update(block)
    name = model.rpartition("/")[2] if not Path(model).is_dir() else Path(model).resolve().name
    return f"{name}@{digest.hexdigest()[:12]}"


def _load(model: str, folder: Path, device: torch.device | str) -> tuple[PreTrainedModel, bool]:
    """(model in evaluation mode, True if its pooler is trained); a checkpoint of a classifier has no pooler."""
    try:
        network, report = AutoModel.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{model} cannot be loaded: {_one_line(error)}") from error
    poolers = {key for key in report["missing_keys"] if "pooler." in key}
    # `masked_spec_embed` masks sound in training; it is not used here, and some checkpoints lack it (wav2vec2, HuBERT).
    untrained = sorted(key for key in {*report["missing_keys"]} - poolers if not key.endswith("masked_spec_embed"))
    if untrained:
        raise ValueError(
            f"{model} lacks {len(untrained)} weights of a {type(network).__name__}, such as {untrained[0]}. "
            "Give a checkpoint of the whole model."
        )
    return network.to(device).eval(), not poolers


def _entry(
    model: str, network: PreTrainedModel, methods: tuple[str, ...], main_inputs: tuple[str, ...], kind: str
) -> Forward:
    """The method that computes features: the first of `methods` that exists, or `forward` if its main input fits."""
    for method in methods:
        if hasattr(network, method):
            forward: Forward = getattr(network, method)
            return forward
    if network.main_input_name in main_inputs:
        return network.forward
    raise ValueError(
        f"{model} is not a model for {kind} features: {type(network).__name__} has no {' or '.join(methods)}, and its "
        f"main input is `{network.main_input_name}`, not {' or '.join(f'`{name}`' for name in main_inputs)}."
    )


def _picture_processor(model: str, folder: Path, is_video: bool) -> Callable[..., Any]:
    """Processor of pictures, or of clips: one that uses PIL if there is one, otherwise torchvision."""
    video_settings = folder / "video_preprocessor_config.json"
    try:
        if is_video and video_settings.is_file():
            settings = json.loads(video_settings.read_text(encoding="utf-8"))
            if settings.get("video_processor_type") in PICTURE_BY_PICTURE:
                return VideoMAEImageProcessorPil(**{key: settings[key] for key in (*SIZES, *VALUES)})
            processor = AutoVideoProcessor.from_pretrained(folder, local_files_only=True)
            return partial(processor, do_sample_frames=False)
        pictures: Callable[..., Any] = AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True)
        return pictures
    except (ImportError, OSError, ValueError, KeyError) as error:
        if "torchvision" in str(error).lower():
            raise ImportError(
                f"Pictures for {model} can only be prepared with torchvision, which is not installed: "
                "`pip install torchvision`. Or choose a model that does not need it, such as CLIP, SigLIP or VideoMAE."
            ) from error
        raise ValueError(f"The picture processor of {model} cannot be loaded: {_one_line(error)}") from error


def _fixed_seconds(extractor: Any) -> float | None:
    """Seconds to which a feature extractor pads or cuts every sound; `None` if it keeps their length."""
    # Imported here: the import fails if torchaudio was built for another torch, even if torchaudio is not used.
    from transformers import ASTFeatureExtractor

    for samples in ("n_samples", "nb_max_samples"):  # Whisper; CLAP
        if hasattr(extractor, samples):
            return float(getattr(extractor, samples) / extractor.sampling_rate)
    if isinstance(extractor, ASTFeatureExtractor):
        return float(extractor.max_length / 100)  # spectra, every 10 ms
    return None


@torch.inference_mode()
def _run(forward: Forward, inputs: dict[str, Tensor], device: torch.device | str, has_pooler: bool) -> np.ndarray:
    """float32 `(B, size)`, or `(B, tokens, size)` from a model without pooling; empty if the model has neither."""
    outputs = forward(**{name: value.to(device) for name, value in inputs.items()})
    features = outputs if isinstance(outputs, Tensor) else None
    if features is None and has_pooler:
        features = getattr(outputs, "pooler_output", None)
        if isinstance(features, Tensor) and features.ndim == 4:  # ResNet: (B, size, 1, 1)
            features = features.flatten(1)
    if features is None:
        features = getattr(outputs, "last_hidden_state", None)
    return features.float().cpu().numpy() if isinstance(features, Tensor) else np.empty(0, np.float32)


def _size(model: str, trial: np.ndarray) -> int:
    """Features per step, from the outputs for two inputs."""
    if trial.ndim not in (2, 3) or len(trial) != 2:
        raise ValueError(
            f"{model} gives outputs of shape {trial.shape} for 2 inputs; expected (2, features) or (2, tokens, "
            "features). Choose a model made for features, or write an encoder for it (see `AudioVisualEncoder`)."
        )
    return int(trial.shape[-1])


def _averaged(outputs: np.ndarray) -> np.ndarray:
    return outputs.mean(axis=1) if outputs.ndim == 3 else outputs


def _windows(items: Iterable[Item], grid: FeatureGrid, num_windows: int) -> Iterator[list[Item]]:
    """The items in the window of each feature; the last item is repeated at the end."""
    iterator = iter(items)
    held: deque[Item] = deque(maxlen=grid.window)
    for index in range(num_windows):
        for _ in range(grid.stride if index else grid.window):
            held.append(next(iterator, held[-1]) if held else next(iterator))
        yield list(held)


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
