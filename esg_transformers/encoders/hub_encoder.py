"""Any two models of transformers as an encoder: one that sees, one that hears, on one feature grid.

The features are ours, after common practice: each model is called as its own class says, and pooled over the window of
each feature. See [`HubEncoder`] for the rules.

A network that is not in transformers, such as ONE-PEACE, becomes an encoder with a class of one's own (see
`AudioVisualEncoder`). Here it comes as `see` and `hear`, from the pictures and from the samples of one second to 1536
numbers, and the files have pictures and sound from start to end.

```python
import numpy as np
from esg_transformers.encoders.encoder import AudioVisualFeatures
from esg_transformers.media.audio import read_waveform
from esg_transformers.media.container import probe
from esg_transformers.media.video import read_frames
from esg_transformers.models.esg_net.grid_esg_net import EncoderId, FeatureGrid, FeatureSpec


class OnePeaceEncoder:
    feature_spec = FeatureSpec(FeatureGrid(16, 4, 16), 1536, 1536, EncoderId("one-peace", "1"))

    def __init__(self, see, hear):
        self.see, self.hear = see, hear

    def __call__(self, source):
        grid, duration = self.feature_spec.grid, probe(source).duration
        frames, waveform = list(read_frames(source, 16)), read_waveform(source, 16_000)
        steps = range(grid.num_steps(duration))
        visual = np.stack([self.see(frames[4 * g :][:16]) for g in steps])
        audio = np.stack([self.hear(waveform[4000 * g :][:16_000]) for g in steps])
        return AudioVisualFeatures(visual, audio, grid, duration)
```
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

GRID = FeatureGrid(frame_rate=16, stride=4, window=16)  # that of ONE-PEACE: a feature every 0.25 s that sees 1 s

VIDEO_METHODS = ("get_video_features", "get_vision_features")  # X-CLIP; V-JEPA 2
IMAGE_METHODS = ("get_image_features",)  # CLIP, SigLIP
AUDIO_METHODS = ("get_audio_features", "get_audio_embeds")  # CLAP; PE-AV

# Video processors, all written for torchvision, that do no more than these settings of theirs say, picture by picture.
PICTURE_BY_PICTURE = ("TimesformerVideoProcessor", "VideoMAEVideoProcessor", "VJEPA2VideoProcessor")
SIZES = ("do_resize", "size", "resample", "do_center_crop", "crop_size")
VALUES = ("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std")

CONFIGS = ("config.json", "preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")
WEIGHTS = ("model*.safetensors", "model.safetensors.index.json")  # patterns

PICTURES_AT_ONCE = 32
WINDOWS_AT_ONCE = 8  # of sound
LONGEST_SOUND = 30.0  # seconds given at once to a model that makes frames; what Whisper takes
SHORTEST_SOUND = 0.1  # seconds, enough for a few spectra

Item = TypeVar("Item")


class HubEncoder:
    """An image or video model, and an audio model, from transformers.

    **What is seen.** A model with `get_video_features` or `get_vision_features` (X-CLIP, V-JEPA 2), or whose config
    says how many frames a clip has (VideoMAE, TimeSformer), is given the pictures of each window as a clip: as many as
    it takes, evenly chosen. A model with `get_image_features` (CLIP, SigLIP), or whose main input is `pixel_values`
    (DINOv2, ViT), is given each picture once, and what it says is averaged over each window. Pictures are prepared with
    PIL wherever the model allows it, even if torchvision is installed, since the two differ a little.

    **What is heard.** A model with `get_audio_features` or `get_audio_embeds` (CLAP, PE-AV), or whose main input is
    sound (AST, wav2vec2, HuBERT, Whisper, of which the encoder is used). If it makes one vector of a sound, it is given
    each window. If it makes a sequence of frames, it is given windows together, up to 30 s, and its frames are averaged
    over each window: then a feature says what happens in its window, but the model has heard what is around it.

    Where the output has a `pooler_output` with trained weights, that is taken; otherwise `last_hidden_state`, averaged
    over the tokens of a picture.

    Pictures and sound are encoded as they are decoded; what is held of a file does not grow with its length.

    ```python
    encoder = HubEncoder("openai/clip-vit-base-patch32", "MIT/ast-finetuned-audioset-10-10-0.4593")
    encoder("clip.mp4").visual.shape  # (steps, 512)
    ```

    `version` names both models, `<name>@<digest>`: the last part of the repository or folder, and a digest of its
    weights and of the settings of the model and its processor. Two models never share one, and a model keeps it when
    it is copied from the Hub to a folder of the same name.

    Args:
        visual_model (`str`, *optional*):
            A folder that `save_pretrained` wrote, which is read without network, or a repository of the Hub,
            `OWNER/NAME`. `None` for an encoder that only hears: its features have no `visual`, and `visual_size` is 1,
            the least that a localization model takes.
        audio_model (`str`, *optional*): as `visual_model`.
        grid (`FeatureGrid`, *optional*): by default a feature every 0.25 s that sees 1 s at 16 frames per second.
        device (`torch.device` or `str`, *optional*): where the models run, in float32.

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
        # The number counts our rules, such as how the pictures of a clip are chosen.
        version = "1-" + "+".join(part.identity if part else "none" for part in (self._see, self._hear))
        self.feature_spec = FeatureSpec(
            grid,
            visual_size=self._see.size if self._see else 1,
            audio_size=self._hear.size if self._hear else 1,
            encoder=EncoderId("hub", version),
        )

    def __call__(self, source: MediaSource) -> AudioVisualFeatures:
        """Features of a media file; a file without sound has no `audio`, one without pictures no `visual`.

        Where one of the two is shorter than the file, its last picture stays, or silence follows.

        Args:
            source: the path of a media file, or its bytes.

        Raises:
            FileNotFoundError: if there is no file.
            ValueError: if it is not a media file, or if it has nothing that decodes for either model.
        """
        [features] = self.blocks(source, sys.maxsize)
        return features

    def blocks(self, source: MediaSource, num_steps: int) -> Iterator[AudioVisualFeatures]:
        """The same features, `num_steps` steps at a time, the last block being what is left.

        What is held of a file does not grow with its length. Errors come when the first block is asked for.
        """
        sampling_rate = self._hear.sampling_rate if self._hear else 0
        return encode_in_blocks(source, self.feature_spec.grid, num_steps, self._see, self._hear, sampling_rate)


class PictureModel:
    """An image or video model, from pictures to features on a grid; see [`HubEncoder`].

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
        # Of a model for pictures and text, the part that sees has a config of its own.
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
        """Features of pictures that are read once; those of a window are kept.

        Args:
            frames: uint8 `(H, W, 3)` RGB at the frame rate of the grid, at least one; after the last, it stays.
            num_steps: features to give.

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
    """An audio model, from a waveform to features on a grid; see [`HubEncoder`].

    Attributes:
        identity (`str`): `<name>@<digest>`, see [`HubEncoder`].
        size (`int`): features per step.
        sampling_rate (`int`): samples per second of the waveform it takes.
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
            raise ValueError(f"How {model} takes sound is not known: {_one_line(error)}") from error
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

    def __call__(self, stretches: Iterable[np.ndarray], num_steps: int) -> Iterator[np.ndarray]:
        """Features of a sound that is read once; 30 s or 8 windows of it are kept.

        Args:
            stretches: float32 `(S,)` in [-1, 1], mono, at `sampling_rate`, one after another as `read_sound` gives
                them; silence follows where features need more.
            num_steps: features to give.

        Yields:
            float32 `(size,)` for each step.
        """
        sound = SlidingSound(stretches)
        for steps in _batches(range(num_steps), self._windows_together if self._makes_frames else WINDOWS_AT_ONCE):
            if self._makes_frames:
                yield from self._span_features(self._samples(sound, steps), len(steps))
            else:
                yield from self._outputs([self._samples(sound, [step]) for step in steps])

    def _span_features(self, samples: np.ndarray, num_steps: int) -> Iterator[np.ndarray]:
        """`(size,)` for each of some steps in a row, from the frames that the model makes of all together."""
        [frames] = self._outputs([samples])  # (F, size)
        # The frames share the time of the input evenly; those centred in a window are averaged.
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
        """The samples from the start of the first window to the end of the last, with silence behind the sound."""
        first = round(steps[0] * self._grid.step * self.sampling_rate)
        length = round(((len(steps) - 1) * self._grid.step + self._window_seconds) * self.sampling_rate)
        return sound.span(first, first + length)

    def _outputs(self, sounds: list[np.ndarray]) -> np.ndarray:
        inputs = dict(self._extractor(sounds, sampling_rate=self.sampling_rate, return_tensors="pt"))
        return _run(self._forward, inputs, self._device, self._has_pooler)


def model_folder(model: str) -> Path:
    """The folder of a model: `model` itself, or where the cache has the repository of that name, after its download.

    Raises:
        FileNotFoundError: if it is neither a folder nor the name of a repository, or has no config or no safetensors.
        OSError: if it cannot be downloaded.
    """
    folder = downloaded_model(model, [*CONFIGS, *WEIGHTS])
    for pattern in (CONFIGS[0], WEIGHTS[0]):
        if not any(folder.glob(pattern)):
            raise FileNotFoundError(f"{model} has no {pattern}. Save the model with `save_pretrained` to a folder.")
    return folder


def model_identity(model: str, folder: Path) -> str:
    """`<name>@<digest>`: the last part of `model`, and 12 digits of the SHA-256 of what its features follow from."""
    digest = hashlib.sha256()
    for pattern in (*CONFIGS, *WEIGHTS):
        for path in sorted(folder.glob(pattern)):
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
            for block in blocks_of(path):
                digest.update(block)
    name = model.rpartition("/")[2] if not Path(model).is_dir() else Path(model).resolve().name
    return f"{name}@{digest.hexdigest()[:12]}"


def _load(model: str, folder: Path, device: torch.device | str) -> tuple[PreTrainedModel, bool]:
    """A model in evaluation mode, and whether its pooler is trained: a checkpoint of a classifier has none."""
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
    # What masks the sound in training is left out of some checkpoints of wav2vec2 and HuBERT, and not used here.
    untrained = sorted(key for key in {*report["missing_keys"]} - poolers if not key.endswith("masked_spec_embed"))
    if untrained:
        raise ValueError(
            f"{model} lacks {len(untrained)} weights of a {type(network).__name__}, such as {untrained[0]}. "
            "Give a checkpoint of the whole model."
        )
    return network.to(device).eval(), not poolers


def _entry(
    model: str, network: PreTrainedModel, methods: tuple[str, ...], main_inputs: tuple[str, ...], kind: str
) -> Callable:
    """What to call for features: the first of `methods` that the class has, or `forward` if its main input is right."""
    for method in methods:
        if hasattr(network, method):
            return getattr(network, method)
    if network.main_input_name in main_inputs:
        return network.forward
    raise ValueError(
        f"{model} is no model for {kind} features: {type(network).__name__} has no {' or '.join(methods)}, and its "
        f"main input is `{network.main_input_name}`, not {' or '.join(f'`{name}`' for name in main_inputs)}."
    )


def _picture_processor(model: str, folder: Path, is_video: bool) -> Callable:
    """What prepares pictures, or clips of them: by PIL if there is such a one, otherwise by torchvision."""
    video_settings = folder / "video_preprocessor_config.json"
    try:
        if is_video and video_settings.is_file():
            settings = json.loads(video_settings.read_text(encoding="utf-8"))
            if settings.get("video_processor_type") in PICTURE_BY_PICTURE:
                return VideoMAEImageProcessorPil(**{key: settings[key] for key in (*SIZES, *VALUES)})
            processor = AutoVideoProcessor.from_pretrained(folder, local_files_only=True)
            return partial(processor, do_sample_frames=False)
        return AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True)
    except (ImportError, OSError, ValueError, KeyError) as error:
        if "torchvision" in str(error).lower():
            raise ImportError(
                f"The pictures for {model} can only be prepared with torchvision, which is not installed: "
                "`pip install torchvision`. Or choose a model that does without, such as CLIP, SigLIP or VideoMAE."
            ) from error
        raise ValueError(f"How {model} takes pictures is not known: {_one_line(error)}") from error


def _fixed_seconds(extractor: Any) -> float | None:
    """Seconds to which a feature extractor pads or cuts every sound; `None` if it takes sounds as they are."""
    # Imported here, as the import fails where torchaudio was built for another torch, used or not.
    from transformers import ASTFeatureExtractor

    for samples in ("n_samples", "nb_max_samples"):  # Whisper; CLAP
        if hasattr(extractor, samples):
            return getattr(extractor, samples) / extractor.sampling_rate
    if isinstance(extractor, ASTFeatureExtractor):
        return extractor.max_length / 100  # spectra, every 10 ms
    return None


@torch.inference_mode()
def _run(forward: Callable, inputs: dict[str, Tensor], device: torch.device | str, has_pooler: bool) -> np.ndarray:
    """float32 `(B, size)`, or `(B, tokens, size)` from a model that does not pool; empty if it gives neither."""
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
    return trial.shape[-1]


def _averaged(outputs: np.ndarray) -> np.ndarray:
    return outputs.mean(axis=1) if outputs.ndim == 3 else outputs


def _windows(items: Iterable[Item], grid: FeatureGrid, num_windows: int) -> Iterator[list[Item]]:
    """The items that each feature of the grid has seen; after the last item, it stays."""
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
