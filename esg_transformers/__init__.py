"""Dense audio-visual event localization with ESG-Net, for transformers, datasets, accelerate and evaluate.

Importing the package registers its classes, so that `AutoConfig`, `AutoModel`, `AutoProcessor` and
`pipeline("audio-visual-event-localization")` know ESG-Net. `AutoModel` gives the model with its heads,
[`EsgNetForEventLocalization`], since transformers has no Auto class for this task.
"""

from transformers import AutoConfig, AutoModel, AutoProcessor
from transformers.pipelines import PIPELINE_REGISTRY

from esg_transformers.models.esg_net.configuration_esg_net import EsgNetConfig
from esg_transformers.models.esg_net.modeling_esg_net import EsgNetForEventLocalization, EsgNetModel
from esg_transformers.models.esg_net.processing_esg_net import EsgNetProcessor
from esg_transformers.models.esg_net.segments_esg_net import FeatureGrid
from esg_transformers.models.unav.configuration_unav import UnavConfig
from esg_transformers.models.unav.modeling_unav import UnavForEventLocalization
from esg_transformers.pipeline import TASK, AudioVisualEventLocalizationPipeline

__version__ = "0.1.0"

AutoConfig.register("esg_net", EsgNetConfig, exist_ok=True)
AutoModel.register(EsgNetConfig, EsgNetForEventLocalization, exist_ok=True)
AutoProcessor.register(EsgNetConfig, EsgNetProcessor, exist_ok=True)
AutoConfig.register("unav", UnavConfig, exist_ok=True)
AutoModel.register(UnavConfig, UnavForEventLocalization, exist_ok=True)
AutoProcessor.register(UnavConfig, EsgNetProcessor, exist_ok=True)
PIPELINE_REGISTRY.register_pipeline(
    TASK, pipeline_class=AudioVisualEventLocalizationPipeline, pt_model=AutoModel, type="multimodal"
)

__all__ = [
    "AudioVisualEventLocalizationPipeline",
    "EsgNetConfig",
    "EsgNetForEventLocalization",
    "EsgNetModel",
    "EsgNetProcessor",
    "FeatureGrid",
    "UnavConfig",
    "UnavForEventLocalization",
]
