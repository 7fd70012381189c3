"""Dense audio-visual event localization with ESG-Net, for transformers, datasets, accelerate and evaluate.

Importing the package registers its classes, so that `AutoConfig`, `AutoModel`, `AutoProcessor` and
`pipeline("audio-visual-event-localization")` know ESG-Net, and I3D and VGGish, which make its features. `AutoModel`
gives the model with its heads, [`EsgNetForEventLocalization`], since transformers has no Auto class for this task.

The import itself is light: a class is imported when it is first used, and registered when transformers has loaded the
mapping of its Auto class (see `esg_transformers.registration`).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from esg_transformers.moved import keep_old_paths
from esg_transformers.registration import register_when_imported

if TYPE_CHECKING:
    from esg_transformers.encoders.i3d.configuration_i3d import I3dConfig
    from esg_transformers.encoders.i3d.modeling_i3d import I3dModel
    from esg_transformers.encoders.i3d.processing_i3d import I3dProcessor
    from esg_transformers.encoders.vggish.configuration_vggish import VggishConfig
    from esg_transformers.encoders.vggish.modeling_vggish import VggishModel
    from esg_transformers.encoders.vggish.processing_vggish import VggishProcessor
    from esg_transformers.localization.pipeline import AudioVisualEventLocalizationPipeline
    from esg_transformers.models.esg_net.configuration_esg_net import EsgNetConfig
    from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid
    from esg_transformers.models.esg_net.modeling_esg_net import EsgNetForEventLocalization, EsgNetModel
    from esg_transformers.models.esg_net.processing_esg_net import EsgNetProcessor
    from esg_transformers.models.unav.configuration_unav import UnavConfig
    from esg_transformers.models.unav.modeling_unav import UnavForEventLocalization

__version__ = "0.2.0"

# The module of each public name, imported when the name is first used.
_MODULES = {
    "AudioVisualEventLocalizationPipeline": "localization.pipeline",
    "EsgNetConfig": "models.esg_net.configuration_esg_net",
    "EsgNetForEventLocalization": "models.esg_net.modeling_esg_net",
    "EsgNetModel": "models.esg_net.modeling_esg_net",
    "EsgNetProcessor": "models.esg_net.processing_esg_net",
    "FeatureGrid": "models.esg_net.grid_esg_net",
    "I3dConfig": "encoders.i3d.configuration_i3d",
    "I3dModel": "encoders.i3d.modeling_i3d",
    "I3dProcessor": "encoders.i3d.processing_i3d",
    "UnavConfig": "models.unav.configuration_unav",
    "UnavForEventLocalization": "models.unav.modeling_unav",
    "VggishConfig": "encoders.vggish.configuration_vggish",
    "VggishModel": "encoders.vggish.modeling_vggish",
    "VggishProcessor": "encoders.vggish.processing_vggish",
}

__all__ = [
    "AudioVisualEventLocalizationPipeline",
    "EsgNetConfig",
    "EsgNetForEventLocalization",
    "EsgNetModel",
    "EsgNetProcessor",
    "FeatureGrid",
    "I3dConfig",
    "I3dModel",
    "I3dProcessor",
    "UnavConfig",
    "UnavForEventLocalization",
    "VggishConfig",
    "VggishModel",
    "VggishProcessor",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value  # later uses do not call this function
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register_when_imported()
keep_old_paths()
