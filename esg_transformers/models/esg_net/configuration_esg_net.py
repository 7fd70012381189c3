"""Configuration of ESG-Net, its fields in the order of the forward pass."""

from typing import TYPE_CHECKING, Any

from huggingface_hub.dataclasses import strict

from .checks_esg_net import check_at_least, check_class_names, check_loss_settings, check_rates
from .grid_esg_net import FeatureGrid, FeatureSpec
from .sharing_esg_net import ConfigWithCodeOnPush

# Fields in which the named sizes differ from the defaults.
SIZES: dict[str, dict[str, int]] = {
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "semantic_size": 32,
        "head_size": 64,
    },
    "small": {"hidden_size": 256, "intermediate_size": 384, "head_size": 160},
    "base": {},
}


@strict
class EsgNetConfig(ConfigWithCodeOnPush):
    r"""
    Configuration of an [`EsgNetModel`]. The defaults are the base size on I3D + VGGish features of UnAV-100 (its 100
    classes are set by `num_labels` or `id2label`).

    The network is a reading of the abstracts (v1 and v2) of arXiv 2507.09945: early semantic interaction with a
    classification loss at every stage, and serial mixtures of dependency experts with adaptive weights. The sizes below
    are this package's and may differ from those in the paper's full text.

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
            Width of each stream and of the fused features.
        num_embedding_layers (`int`, *optional*, defaults to 2):
            Masked convolutions that project a stream to `hidden_size`.
        num_attention_heads (`int`, *optional*, defaults to 4):
            Attention heads, except in the experts; `hidden_size / num_attention_heads` must be even.
        intermediate_size (`int`, *optional*, defaults to 768):
            Width of the feed-forward layers.
        rope_theta (`float`, *optional*, defaults to 10000.0):
            Base of the rotary positions. Positions are relative: a video shifted in time gives shifted events.
        drop_path_rate (`float`, *optional*, defaults to 0.1):
            Share of videos for which a residual branch is skipped in training.
        use_semantic_interaction (`bool`, *optional*, defaults to `True`):
            Early semantic interaction (ESI). `False` (an ablation) leaves a plain stem of the same depth: no semantic
            logits and losses, no linear path from the features to classes, no evidence in the class logits.
        num_semantic_stages (`int`, *optional*, defaults to 2):
            Stages of self- and cross-attention at full rate; each ends in semantic logits with their own loss.
        semantic_size (`int`, *optional*, defaults to 128):
            Width of the semantic space that the class prototypes span.
        feature_dropout (`float`, *optional*):
            Dropout, in training, of a stream's features on their linear path to the classes. By default
            `1 - 6 / sqrt(size)`, and at least 0: 0.85 for 1536 features.
        pyramid_levels (`int`, *optional*, defaults to 6):
            Temporal resolutions; level `l` has one point every `2**l` steps. More levels reach longer events.
        head_size (`int`, *optional*, defaults to 192):
            Width of the classification and boundary towers.
        num_head_layers (`int`, *optional*, defaults to 2):
            Masked convolutions of each tower before its output layer.
        prior_probability (`float`, *optional*, defaults to 0.01):
            Initial class probability, set by the output biases, so that background does not dominate the first steps.
        num_dependency_layers (`int`, *optional*, defaults to 2):
            Mixtures of dependency experts in series (MoDE). 0 (an ablation) turns MoDE off.
        num_experts (`int`, *optional*, defaults to 4):
            Dependency experts in each mixture.
        num_event_slots (`int`, *optional*, defaults to 8):
            Event slots of a video: the classes with its highest logits, whose events the experts relate to each other.
        event_slot_size (`int`, *optional*, defaults to 16):
            Width of an event slot; even.
        slot_noise (`float`, *optional*, defaults to 2.5):
            Standard deviation, in logits, of Gaussian noise added in training to the semantic logits that MoDE reads,
            one draw per video and slot. On training videos ESI is overconfident about which classes occur; the noise
            keeps MoDE from relying on it.
        focal_alpha (`float`, *optional*, defaults to 0.25):
            Weight of positives in the focal losses.
        focal_gamma (`float`, *optional*, defaults to 2.0):
            Exponent of the focal losses; higher values down-weight easy examples more.
        boundary_loss_weight (`float`, *optional*, defaults to 1.0):
            Weight of the boundary (centre-DIoU) loss.
        semantic_loss_weight (`float`, *optional*, defaults to 1.0):
            Weight of the mean of the stages' semantic losses.
        router_loss_weight (`float`, *optional*, defaults to 0.01):
            Weight of the balance loss, which keeps the router from using a single expert.
        loss_normalizer_init (`float`, *optional*, defaults to 250.0):
            Initial value of the running count of positive points, by which the losses are divided.
        loss_normalizer_momentum (`float`, *optional*, defaults to 0.9):
            Momentum of that count.

    ```python
    >>> from esg_transformers import EsgNetConfig, EsgNetModel

    >>> configuration = EsgNetConfig(num_labels=100)
    >>> model = EsgNetModel(configuration)
    >>> model.config.feature_grid.step  # seconds from one feature to the next
    0.32

    ```
    """

    model_type = "esg_net"
    keys_to_ignore_at_inference = [
        "loss_dict",
        "semantic_logits",
        "router_weights",
        "last_hidden_state",
        "hidden_states",
        "attentions",
    ]

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
    num_attention_heads: int = 4
    intermediate_size: int = 768
    rope_theta: float | int = 10000.0
    drop_path_rate: float | int = 0.1
    # early semantic interaction
    use_semantic_interaction: bool = True
    num_semantic_stages: int = 2
    semantic_size: int = 128
    feature_dropout: float | int | None = None
    # temporal pyramid
    pyramid_levels: int = 6
    # heads
    head_size: int = 192
    num_head_layers: int = 2
    prior_probability: float = 0.01
    # mixture of dependency experts
    num_dependency_layers: int = 2
    num_experts: int = 4
    num_event_slots: int = 8
    event_slot_size: int = 16
    slot_noise: float | int = 2.5
    # losses
    focal_alpha: float = 0.25
    focal_gamma: float | int = 2.0
    boundary_loss_weight: float | int = 1.0
    semantic_loss_weight: float | int = 1.0
    router_loss_weight: float | int = 0.01
    loss_normalizer_init: float | int = 250.0
    loss_normalizer_momentum: float | int = 0.9

    @classmethod
    def of_size(cls, size: str, **fields: Any) -> "EsgNetConfig":
        """A configuration of a named size: "tiny" for demonstrations, "small" for laptops, or "base".

        Args:
            size: the name.
            fields: other fields, or other values of those that the size sets.

        Raises:
            ValueError: if there is no such size.

        >>> EsgNetConfig.of_size("small", num_labels=100).hidden_size
        256
        """
        if size not in SIZES:
            raise ValueError(f"There is no size {size!r}; the sizes are {', '.join(SIZES)}.")
        return cls(**(SIZES[size] | fields))

    def __post_init__(self, **kwargs: Any) -> None:
        # Either map may be given; the other is its inverse.
        if self.id2label is None and self.label2id:
            self.id2label = {int(index): label for label, index in self.label2id.items()}
        super().__post_init__(**kwargs)
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
        """Number of stages at full rate, under the name that transformers' tools read."""
        return self.num_semantic_stages

    def validate_architecture(self) -> None:
        """Refuse values that are out of range and combinations of sizes that cannot be built."""
        super().validate_architecture()
        FeatureGrid(self.frame_rate, self.feature_stride, self.feature_window)
        check_class_names(self)
        sizes = (
            "visual_size audio_size hidden_size num_embedding_layers num_attention_heads intermediate_size "
            "num_semantic_stages semantic_size num_experts num_event_slots head_size num_head_layers"
        )
        check_at_least(1, self, *sizes.split())
        check_at_least(2, self, "pyramid_levels")
        if self.num_dependency_layers < 0:
            raise ValueError(f"`num_dependency_layers` must be 0 (MoDE off) or more; got {self.num_dependency_layers}.")
        if self.hidden_size % (2 * self.num_attention_heads):
            raise ValueError(
                f"`hidden_size` ({self.hidden_size}) must be a multiple of 2 x `num_attention_heads` "
                f"({self.num_attention_heads}): rotary positions turn pairs of channels of a head."
            )
        if self.event_slot_size < 2 or self.event_slot_size % 2:
            raise ValueError(f"`event_slot_size` must be even and at least 2; got {self.event_slot_size}.")
        if self.slot_noise < 0:
            raise ValueError(f"`slot_noise` must be 0 (none) or more; got {self.slot_noise}.")
        check_rates(self, "drop_path_rate", "feature_dropout")
        check_loss_settings(self)


__all__ = ["EsgNetConfig"]
