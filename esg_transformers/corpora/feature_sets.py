"""Published feature sets: file names, sizes and clocks."""

import os
from dataclasses import dataclass, fields
from typing import Any

from esg_transformers.annotations.parsing import read_annotation_json
from esg_transformers.annotations.values import is_safe_video_id
from esg_transformers.models.esg_net.grid_esg_net import EncoderId, FeatureGrid, FeatureSpec


@dataclass(frozen=True)
class FeatureSet:
    """A kind of feature files: `<video id><suffix>.npy`, each `(T, channels)`, a stream's channels in equal parts.

    Args:
        name: of the encoders that made the features.
        grid: when each step is.
        visual_suffixes: of the files whose channels, side by side, are the visual stream.
        audio_suffixes: of those that are the audio stream.
        visual_size: channels of the visual stream.
        audio_size: channels of the audio stream.
        version: of the encoders.
        audio_grid: when each step of the audio stream is, if it is on a clock of its own.

    Raises:
        ValueError: if a stream has no files or channels, or a suffix leads out of the folder.
    """

    name: str
    grid: FeatureGrid
    visual_suffixes: tuple[str, ...]
    audio_suffixes: tuple[str, ...]
    visual_size: int
    audio_size: int
    version: str = "1"
    audio_grid: FeatureGrid | None = None

    @property
    def feature_spec(self) -> FeatureSpec:
        """What the features are."""
        return FeatureSpec(self.grid, self.visual_size, self.audio_size, EncoderId(self.name, self.version))

    def __post_init__(self):
        for stream in ("visual", "audio"):
            suffixes, size = getattr(self, f"{stream}_suffixes"), getattr(self, f"{stream}_size")
            if not suffixes or size < 1 or size % len(suffixes):
                raise ValueError(
                    f"`{stream}_suffixes` and `{stream}_size` must be one suffix or more, and as many channels or a "
                    f"multiple; got {len(suffixes)} suffixes and {size} channels."
                )
            for suffix in suffixes:
                if not is_safe_video_id(f"id{suffix}"):
                    raise ValueError(
                        f"`{stream}_suffixes` has {suffix!r}; a suffix must be without / \\ : and control characters."
                    )


# Suffixes and sizes: libs/datasets/unav100.py of UnAV (1609deb) for I3D and VGGish, of CCNet (d148d07) for ONE-PEACE.
FEATURE_SETS = {
    "i3d-vggish": FeatureSet(
        name="i3d-vggish",
        grid=FeatureGrid(frame_rate=25.0, stride=8, window=24),
        visual_suffixes=("_rgb", "_flow"),
        audio_suffixes=("_vggish",),
        visual_size=2048,
        audio_size=128,
        version="unav100",
    ),
    "one-peace": FeatureSet(
        name="one-peace",
        grid=FeatureGrid(frame_rate=16.0, stride=4, window=16),
        visual_suffixes=("_one_peace_video_finetune",),
        audio_suffixes=("_one_peace_audio",),
        visual_size=1536,
        audio_size=1536,
        version="unav100",
    ),
}


def read_feature_set(path: str | os.PathLike) -> FeatureSet:
    """A feature set from a JSON file with the fields of `FeatureSet`; `version` and `audio_grid` may be absent.

    A grid is `{"frame_rate": frames/s, "stride": frames, "window": frames}`, suffixes are lists of strings.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it does not describe a feature set.
    """
    content, repeated = read_annotation_json(path)
    try:
        if not isinstance(content, dict) or repeated:
            raise ValueError(f"it must be one JSON object that gives each field once; {repeated or 'it is not'}")
        optional = {"version", "audio_grid"}
        known = {field.name for field in fields(FeatureSet)}
        if not known - optional <= content.keys() <= known:
            raise ValueError(
                f"missing: {sorted(known - optional - content.keys())}, unknown: {sorted(content.keys() - known)}"
            )
        types = {"name": str, "version": str, "visual_size": int, "audio_size": int}
        for name, kind in types.items():
            if type(content.get(name, kind())) is not kind:
                raise ValueError(f"`{name}` is {content[name]!r}, not a {kind.__name__}")
        for name in ("visual_suffixes", "audio_suffixes"):
            if not isinstance(content[name], list) or not all(isinstance(suffix, str) for suffix in content[name]):
                raise ValueError(f"`{name}` is {content[name]!r}, not a list of strings")
            content[name] = tuple(content[name])
        for name in {"grid", "audio_grid"} & content.keys():
            content[name] = _grid_of(content[name])
        return FeatureSet(**content)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} does not describe a feature set: {str(error).rstrip('.')}.") from error


def _grid_of(content: Any) -> FeatureGrid:
    """The grid that a JSON file describes."""
    names = [field.name for field in fields(FeatureGrid)]
    if not isinstance(content, dict) or sorted(content) != sorted(names):
        raise ValueError(f"a grid is {content!r}, not an object of {', '.join(names)}")
    if not (type(content["frame_rate"]) in (int, float) and type(content["stride"]) is type(content["window"]) is int):
        raise ValueError(f"a grid has a number of frames/s, and whole numbers as stride and window; got {content}")
    return FeatureGrid(**content)
