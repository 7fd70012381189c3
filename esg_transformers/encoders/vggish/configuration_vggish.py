"""Configuration of VGGish."""

from huggingface_hub.dataclasses import strict

from esg_transformers.models.esg_net.sharing_esg_net import ConfigWithCodeOnPush


@strict
class VggishConfig(ConfigWithCodeOnPush):
    r"""
    Configuration of a [`VggishModel`] (Hershey et al., arXiv 1609.09430). The defaults are the published model.

    Args:
        intermediate_size (`int`, *optional*, defaults to 4096):
            Width of the two hidden layers after the convolutions.
        hidden_size (`int`, *optional*, defaults to 128):
            Channels of a feature.

    ```python
    >>> from esg_transformers import VggishConfig

    >>> VggishConfig().hidden_size
    128

    ```
    """

    model_type = "vggish"

    intermediate_size: int = 4096
    hidden_size: int = 128

    def validate_architecture(self) -> None:
        """Check the sizes.

        Raises:
            ValueError: naming the field that cannot be built.
        """
        super().validate_architecture()  # type: ignore[no-untyped-call]  # of transformers
        for name in ("intermediate_size", "hidden_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1; got {getattr(self, name)}.")


__all__ = ["VggishConfig"]
