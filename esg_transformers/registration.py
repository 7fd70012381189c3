"""Registration of the package's classes with transformers' Auto classes and pipelines, without importing transformers.

`import esg_transformers` must be enough for `AutoModel.from_pretrained` to know ESG-Net, and must stay cheap:
transformers takes a second to import, torch two more. So each registration waits for the module of transformers that
holds its mapping:

- if that module (`transformers.models.auto.modeling_auto` for models) is loaded when `esg_transformers` is imported,
  the classes are registered at once;
- otherwise they are registered when it has been imported, before `from transformers import AutoModel` returns.

The second case uses a finder on `sys.meta_path`. It passes every search on to the other finders, and counts the imports
of transformers and of this package that are in progress. Registrations are made when the outermost one ends, because
before that both packages can have partially initialized modules. The finder removes itself after the last registration.
"""

import sys
import threading
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


def register_when_imported() -> None:
    """Make the registrations whose modules are loaded; make the others when their modules are imported."""
    sys.meta_path.insert(0, _FINDER)
    _FINDER.register_loaded()


def _register_configs() -> None:
    from transformers import AutoConfig

    from esg_transformers.encoders.i3d.configuration_i3d import I3dConfig
    from esg_transformers.encoders.vggish.configuration_vggish import VggishConfig
    from esg_transformers.models.esg_net.configuration_esg_net import EsgNetConfig
    from esg_transformers.models.unav.configuration_unav import UnavConfig

    for config in (EsgNetConfig, UnavConfig, I3dConfig, VggishConfig):
        AutoConfig.register(config.model_type, config, exist_ok=True)


def _register_models() -> None:
    from transformers import AutoModel

    from esg_transformers.encoders.i3d.modeling_i3d import I3dModel
    from esg_transformers.encoders.vggish.modeling_vggish import VggishModel
    from esg_transformers.models.esg_net.modeling_esg_net import EsgNetForEventLocalization
    from esg_transformers.models.unav.modeling_unav import UnavForEventLocalization

    for model in (EsgNetForEventLocalization, UnavForEventLocalization, I3dModel, VggishModel):
        AutoModel.register(model.config_class, model, exist_ok=True)


def _register_processors() -> None:
    from transformers import AutoProcessor

    from esg_transformers.encoders.i3d.configuration_i3d import I3dConfig
    from esg_transformers.encoders.i3d.processing_i3d import I3dProcessor
    from esg_transformers.encoders.vggish.configuration_vggish import VggishConfig
    from esg_transformers.encoders.vggish.processing_vggish import VggishProcessor
    from esg_transformers.models.esg_net.configuration_esg_net import EsgNetConfig
    from esg_transformers.models.esg_net.processing_esg_net import EsgNetProcessor
    from esg_transformers.models.unav.configuration_unav import UnavConfig

    AutoProcessor.register(EsgNetConfig, EsgNetProcessor, exist_ok=True)
    AutoProcessor.register(UnavConfig, EsgNetProcessor, exist_ok=True)
    AutoProcessor.register(I3dConfig, I3dProcessor, exist_ok=True)
    AutoProcessor.register(VggishConfig, VggishProcessor, exist_ok=True)


def _register_task() -> None:
    from transformers import AutoModel
    from transformers.pipelines import PIPELINE_REGISTRY

    from esg_transformers.localization.pipeline import TASK, AudioVisualEventLocalizationPipeline

    PIPELINE_REGISTRY.register_pipeline(
        TASK, pipeline_class=AudioVisualEventLocalizationPipeline, pt_model=AutoModel, type="multimodal"
    )


class _Finder(MetaPathFinder):
    """Finder that makes registrations after imports; see the docstring of the module."""

    def __init__(self, registrations: dict[str, Callable[[], None]]):
        self._waiting = dict(registrations)  # by the module that has to be loaded first
        self._thread = threading.local()  # its `depth` counts the imports that have begun and not ended

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Spec from the other finders. Its loader is changed to make registrations after loading."""
        if fullname.partition(".")[0] not in ("transformers", "esg_transformers"):
            return None
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            if (spec := finder.find_spec(fullname, path, target)) is not None:
                if spec.loader is not None:
                    spec.loader.exec_module = self._counted(spec.loader.exec_module)  # type: ignore[method-assign, assignment]
                return spec
        return None

    def register_loaded(self) -> None:
        """Make the registrations whose modules are loaded."""
        for module in list(self._waiting):
            # A registration imports modules, and this runs again when they are loaded: `module` may be done by now.
            if module in sys.modules and (register := self._waiting.pop(module, None)) is not None:
                register()
        if not self._waiting and self in sys.meta_path:
            sys.meta_path.remove(self)

    def _counted(self, exec_module: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
        def counting(module: ModuleType) -> None:
            depth = getattr(self._thread, "depth", 0)
            self._thread.depth = depth + 1
            try:
                exec_module(module)
            finally:
                self._thread.depth = depth
            if depth == 0:
                self.register_loaded()

        return counting


_FINDER = _Finder(
    {
        "transformers.models.auto.configuration_auto": _register_configs,
        "transformers.models.auto.modeling_auto": _register_models,
        "transformers.models.auto.processing_auto": _register_processors,
        "transformers.pipelines": _register_task,
    }
)
