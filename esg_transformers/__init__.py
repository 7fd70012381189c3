"""Dense audio-visual event localization with ESG-Net, for transformers, datasets, accelerate and evaluate.

Importing the package registers its classes, so that `AutoConfig`, `AutoModel`, `AutoProcessor` and
`pipeline("audio-visual-event-localization")` know ESG-Net, and I3D and VGGish, which make its features. `AutoModel`
gives the model with its heads, [`EsgNetForEventLocalization`], since transformers has no Auto class for this task.
"""

from transformers import AutoConfig, AutoModel, AutoProcessor
from transformers.pipelines import PIPELINE_REGISTRY

from esg_transformers.encoders.i3d.configuration_i3d import I3dConfig
from esg_transformers.encoders.i3d.modeling_i3d import I3dModel
from esg_transformers.encoders.i3d.processing_i3d import I3dProcessor
from esg_transformers.encoders.vggish.configuration_vggish import VggishConfig
from esg_transformers.encoders.vggish.modeling_vggish import VggishModel
from esg_transformers.encoders.vggish.processing_vggish import VggishProcessor
from esg_transformers.localization.pipeline import TASK, AudioVisualEventLocalizationPipeline
from esg_transformers.models.esg_net.configuration_esg_net import EsgNetConfig
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid
from esg_transformers.models.esg_net.modeling_esg_net import EsgNetForEventLocalization, EsgNetModel
from esg_transformers.models.esg_net.processing_esg_net import EsgNetProcessor
from esg_transformers.models.unav.configuration_unav import UnavConfig
from esg_transformers.models.unav.modeling_unav import UnavForEventLocalization

__version__ = "0.1.0"

# The code of these is saved with a checkpoint, so that it loads from the Hub without this package too.
EsgNetConfig.register_for_auto_class("AutoConfig")
EsgNetForEventLocalization.register_for_auto_class("AutoModel")
EsgNetProcessor.register_for_auto_class("AutoProcessor")
I3dConfig.register_for_auto_class("AutoConfig")
I3dModel.register_for_auto_class("AutoModel")
I3dProcessor.register_for_auto_class("AutoProcessor")
VggishConfig.register_for_auto_class("AutoConfig")
VggishModel.register_for_auto_class("AutoModel")
VggishProcessor.register_for_auto_class("AutoProcessor")

AutoConfig.register("esg_net", EsgNetConfig, exist_ok=True)
AutoModel.register(EsgNetConfig, EsgNetForEventLocalization, exist_ok=True)
AutoProcessor.register(EsgNetConfig, EsgNetProcessor, exist_ok=True)
AutoConfig.register("unav", UnavConfig, exist_ok=True)
AutoModel.register(UnavConfig, UnavForEventLocalization, exist_ok=True)
AutoProcessor.register(UnavConfig, EsgNetProcessor, exist_ok=True)
AutoConfig.register("i3d", I3dConfig, exist_ok=True)
AutoModel.register(I3dConfig, I3dModel, exist_ok=True)
AutoProcessor.register(I3dConfig, I3dProcessor, exist_ok=True)
AutoConfig.register("vggish", VggishConfig, exist_ok=True)
AutoModel.register(VggishConfig, VggishModel, exist_ok=True)
AutoProcessor.register(VggishConfig, VggishProcessor, exist_ok=True)
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
    "I3dConfig",
    "I3dModel",
    "I3dProcessor",
    "UnavConfig",
    "UnavForEventLocalization",
    "VggishConfig",
    "VggishModel",
    "VggishProcessor",
]
