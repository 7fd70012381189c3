"""Feature sets: names, channels and time grids of feature files, published ones and your own."""

import os
from dataclasses import dataclass, fields
from typing import Any

from esg_transformers.annotations.parsing import read_annotation_json
from esg_transformers.annotations.values import is_safe_video_id
from esg_transformers.models.esg_net.grid_esg_net import EncoderId, FeatureGrid, FeatureSpec


@dataclass(frozen=True)
class FeatureSet:
    """Layout of feature files: `<video id><suffix>.npy`, arrays `(T, channels)`.

    A stream may have several files, whose channels are concatenated; all files of a stream have equally many.

    Args:
        name: name of the encoders that made the features.
        grid: time grid of the features.
        visual_suffixes: suffixes of the files of the visual stream, in the order of its channels.
        audio_suffixes: suffixes of the files of the audio stream, in the order of its channels.
        visual_size: channels of the visual stream.
        audio_size: channels of the audio stream.
        version: version of the encoders.
        audio_grid: time grid of the audio stream, if it differs from `grid`.

    Raises:
        ValueError: if a stream has no files or channels, or a suffix contains a path.
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
        """Time grid, channels and encoder of the features; of two grids, that of the visual stream."""
        return FeatureSpec(self.grid, self.visual_size, self.audio_size, EncoderId(self.name, self.version))

    def __post_init__(self) -> None:
        for stream in ("visual", "audio"):
            suffixes, size = getattr(self, f"{stream}_suffixes"), getattr(self, f"{stream}_size")
            if not suffixes or size < 1 or size % len(suffixes):
                raise ValueError(
                    f"`{stream}_suffixes` must have at least one suffix, and `{stream}_size` must be a multiple of "
                    f"their number; got {len(suffixes)} suffixes and {size} channels."
                )
            for suffix in suffixes:
                if not is_safe_video_id(f"id{suffix}"):
                    raise ValueError(
                        f"`{stream}_suffixes` has {suffix!r}; a suffix must be without / \\ : and control characters."
                    )


# The published features of UnAV-100. Suffixes and sizes are from libs/datasets/unav100.py: of UnAV (commit 1609deb) for
# I3D and VGGish, of CCNet (commit d148d07) for ONE-PEACE.
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


def read_feature_set(path: str | os.PathLike[str]) -> FeatureSet:
    """Read a feature set from a JSON file.

    The file has one object with the fields of `FeatureSet`; `version` and `audio_grid` are optional. A grid is
    `{"frame_rate": frames/s, "stride": frames, "window": frames}`; suffixes are lists of strings.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is not a feature set.
    """
    content, repeated = read_annotation_json(path)
    try:
        if not isinstance(content, dict):
            raise ValueError("expected one JSON object")
        if repeated:
            raise ValueError(f"these fields occur twice: {repeated}")
        optional = {"version", "audio_grid"}
        known = {field.name for field in fields(FeatureSet)}
        if not known - optional <= content.keys() <= known:
            raise ValueError(
                f"missing: {sorted(known - optional - content.keys())}, unknown: {sorted(content.keys() - known)}"
            )
        types = {"name": str, "version": str, "visual_size": int, "audio_size": int}
        for name, kind in types.items():
            if type(content.get(name, kind())) is not kind:
                raise ValueError(f"`{name}` is {content[name]!r}; expected {kind.__name__}")
        for name in ("visual_suffixes", "audio_suffixes"):
            if not isinstance(content[name], list) or not all(isinstance(suffix, str) for suffix in content[name]):
                raise ValueError(f"`{name}` is {content[name]!r}; expected a list of strings")
            content[name] = tuple(content[name])
        for name in {"grid", "audio_grid"} & content.keys():
            content[name] = _grid_of(content[name])
        return FeatureSet(**content)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a feature set: {str(error).rstrip('.')}.") from error


def _grid_of(content: Any) -> FeatureGrid:
    """A grid from its JSON object."""
    names = [field.name for field in fields(FeatureGrid)]
    if not isinstance(content, dict) or sorted(content) != sorted(names):
        raise ValueError(f"a grid is {content!r}; expected an object of {', '.join(names)}")
    if not (type(content["frame_rate"]) in (int, float) and type(content["stride"]) is type(content["window"]) is int):
        raise ValueError(f"a grid needs a number as frame_rate and whole numbers as stride and window; got {content}")
    return FeatureGrid(**content)
