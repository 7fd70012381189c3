"""Configuration of the UnAV baseline, its fields in the order of the forward pass."""

from typing import TYPE_CHECKING, Any

from huggingface_hub.dataclasses import strict

from esg_transformers.models.esg_net.checks_esg_net import (
    check_at_least,
    check_class_names,
    check_loss_settings,
    check_rates,
)
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid, FeatureSpec
from esg_transformers.models.esg_net.sharing_esg_net import ConfigWithCodeOnPush


@strict
class UnavConfig(ConfigWithCodeOnPush):
    r"""
    Configuration of a [`UnavForEventLocalization`]. The defaults are the published model on I3D + VGGish features of
    UnAV-100 (configs/avel_unav100.yaml and libs/core/config.py, UnAV commit 1609deb), whose 100 classes are set
    through `num_labels` or `id2label`.

    Args:
        visual_size (`int`, *optional*, defaults to 2048):
            Channels of a visual feature: 2048 for I3D (RGB and RAFT flow), 1536 for ONE-PEACE.
        audio_size (`int`, *optional*, defaults to 128):
            Channels of an audio feature: 128 for VGGish, 1536 for ONE-PEACE.
        frame_rate (`float`, *optional*, defaults to 25.0):
            Frames per second of the video the features were taken from. With the next two, the feature grid: feature
            `g` is centred at `(g * feature_stride + feature_window / 2) / frame_rate` seconds.
        feature_stride (`int`, *optional*, defaults to 8):
            Frames from one feature to the next.
        feature_window (`int`, *optional*, defaults to 24):
            Frames that one feature covers.
        hidden_size (`int`, *optional*, defaults to 512):
            Width of each stream; even. The pyramid concatenates both.
        num_embedding_layers (`int`, *optional*, defaults to 2):
            Masked convolutions that project a stream to `hidden_size`.
        max_seq_len (`int`, *optional*, defaults to 224):
            Rows of the position table, interpolated for longer videos; a multiple of `2**(pyramid_levels - 1)`.
        num_attention_heads (`int`, *optional*, defaults to 4):
            Attention heads, except in the dependency block.
        intermediate_size (`int`, *optional*, defaults to 2048):
            Width of the feed-forward layers outside the dependency block.
        drop_path_rate (`float`, *optional*, defaults to 0.1):
            Share of videos for which a residual branch is skipped in training.
        num_stem_layers (`int`, *optional*, defaults to 2):
            Self-attention blocks of each stream before the streams meet.
        pyramid_levels (`int`, *optional*, defaults to 6):
            Temporal resolutions; level `l` has one point every `2**l` steps. More levels reach longer events.
        use_dependency (`bool`, *optional*, defaults to `True`):
            Dependency block, which relates the classes to each other and over time; `False` leaves it out.
        dependency_size (`int`, *optional*, defaults to 128):
            Channels of each class at each point in the dependency block.
        head_size (`int`, *optional*, defaults to 512):
            Width of the classification and boundary heads.
        num_head_layers (`int`, *optional*, defaults to 2):
            Masked convolutions of each head before its output layer.
        prior_probability (`float`, *optional*, defaults to 0.01):
            Initial class probability, set by the output biases, so that background does not dominate the first steps.
        focal_alpha (`float`, *optional*, defaults to 0.25):
            Weight of positives in the focal loss.
        focal_gamma (`float`, *optional*, defaults to 2.0):
            Exponent of the focal loss; higher values down-weight easy examples more.
        boundary_loss_weight (`float`, *optional*, defaults to 1.0):
            Weight of the boundary (centre-DIoU) loss.
        loss_normalizer_init (`float`, *optional*, defaults to 250.0):
            Initial value of the running count of positive points, by which the losses are divided.
        loss_normalizer_momentum (`float`, *optional*, defaults to 0.9):
            Momentum of that count.

    ```python
    >>> from esg_transformers import UnavConfig

    >>> UnavConfig(num_labels=100).feature_grid.step  # seconds from one feature to the next
    0.32

    ```
    """

    model_type = "unav"
    keys_to_ignore_at_inference = ["loss_dict"]

    if TYPE_CHECKING:  # narrower than the types of transformers, which also has configs without classes
        id2label: dict[int, str] = {}
        label2id: dict[str, int] = {}
        num_labels: int = 2

    # features
    visual_size: int = 2048
    audio_size: int = 128
    frame_rate: float | int = 25.0
    feature_stride: int = 8
    feature_window: int = 24
    # embeddings and attention
    hidden_size: int = 512
    num_embedding_layers: int = 2
    max_seq_len: int = 224
    num_attention_heads: int = 4
    intermediate_size: int = 2048
    drop_path_rate: float | int = 0.1
    num_stem_layers: int = 2
    # temporal pyramid
    pyramid_levels: int = 6
    # dependency block
    use_dependency: bool = True
    dependency_size: int = 128
    # heads
    head_size: int = 512
    num_head_layers: int = 2
    prior_probability: float = 0.01
    # losses
    focal_alpha: float = 0.25
    focal_gamma: float | int = 2.0
    boundary_loss_weight: float | int = 1.0
    loss_normalizer_init: float | int = 250.0
    loss_normalizer_momentum: float | int = 0.9

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        # transformers keeps a stale `label2id` when only `id2label` is given.
        self.label2id = {label: index for index, label in self.id2label.items()}

    @property
    def feature_grid(self) -> FeatureGrid:
        """Feature grid of the features that this model reads."""
        return FeatureGrid(self.frame_rate, self.feature_stride, self.feature_window)

    @property
    def feature_spec(self) -> FeatureSpec:
        """Feature spec of the features that this model reads; a config does not name their encoder."""
        return FeatureSpec(self.feature_grid, self.visual_size, self.audio_size)

    @property
    def num_hidden_layers(self) -> int:
        """Number of blocks of a stream at full rate, under the name that transformers' tools read."""
        return self.num_stem_layers

    def validate_architecture(self) -> None:
        """Refuse values that are out of range and combinations of sizes that cannot be built."""
        super().validate_architecture()
        FeatureGrid(self.frame_rate, self.feature_stride, self.feature_window)
        check_class_names(self)
        sizes = (
            "visual_size audio_size hidden_size num_embedding_layers max_seq_len num_attention_heads "
            "intermediate_size pyramid_levels dependency_size head_size num_head_layers"
        )
        check_at_least(1, self, *sizes.split())
        check_at_least(0, self, "num_stem_layers")
        if self.hidden_size % 2 or self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"`hidden_size` ({self.hidden_size}) must be even, for pairs of sines and cosines, and a multiple of "
                f"`num_attention_heads` ({self.num_attention_heads})."
            )
        if self.max_seq_len % 2 ** (self.pyramid_levels - 1):
            raise ValueError(
                f"`max_seq_len` ({self.max_seq_len}) must be a multiple of {2 ** (self.pyramid_levels - 1)}, the "
                f"coarsest stride of {self.pyramid_levels} `pyramid_levels`."
            )
        check_rates(self, "drop_path_rate")
        check_loss_settings(self)


__all__ = ["UnavConfig"]
