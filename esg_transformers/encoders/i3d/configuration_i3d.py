"""Configuration of I3D."""

from huggingface_hub.dataclasses import strict

from esg_transformers.models.esg_net.sharing_esg_net import ConfigWithCodeOnPush


@strict
class I3dConfig(ConfigWithCodeOnPush):
    r"""
    Configuration of an [`I3dModel`]: Inception v1, inflated to 3D (Carreira and Zisserman, arXiv 1705.07750). Layers
    are those of the published weights; a feature has 1024 channels.

    Args:
        num_channels (`int`, *optional*, defaults to 3):
            Channels of a frame: 3 for RGB, 2 for optical flow.
        batch_norm_eps (`float`, *optional*, defaults to 1e-05):
            Added to the variances. The features of UnAV-100 were made with 1e-05 (models/i3d/i3d_src/i3d_net.py,
            video_features a2f61b7). The weights were trained with 0.001, the value in the current version of their
            first PyTorch port (src/i3dpt.py, kinetics_i3d_pytorch 786fbae).

    ```python
    >>> from esg_transformers import I3dConfig

    >>> I3dConfig(num_channels=2).hidden_size  # channels of a feature
    1024

    ```
    """

    model_type = "i3d"

    num_channels: int = 3
    batch_norm_eps: float = 1e-5

    @property
    def hidden_size(self) -> int:
        """Channels of a feature; the name that tools of transformers use."""
        return 1024

    def validate_architecture(self) -> None:
        """Check the values.

        Raises:
            ValueError: naming the field that cannot be built.
        """
        super().validate_architecture()  # type: ignore[no-untyped-call]  # of transformers
        if self.num_channels < 1:
            raise ValueError(f"`num_channels` must be at least 1; got {self.num_channels}.")
        if self.batch_norm_eps <= 0:
            raise ValueError(f"`batch_norm_eps` must be positive; got {self.batch_norm_eps}.")


__all__ = ["I3dConfig"]
