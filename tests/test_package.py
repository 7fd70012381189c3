import ast
import re
import sys
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModel, AutoProcessor
from transformers.pipelines import PIPELINE_REGISTRY

import esg_transformers
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid

ROOT = Path(esg_transformers.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))

# What each part may import of the others. A part is a folder, or a module on the top level.
ALLOWED = {
    "__init__": {"encoders", "models", "pipeline"},
    "__main__": {"cli"},
    "cli": {
        "batch",
        "data",
        "encoders",
        "evaluation",
        "evidence",
        "media",
        "models",
        "pipeline",
        "training",
        "visualization",
    },
    "batch": {"pipeline", "data", "encoders.encoder", "media"},
    "evidence": {"pipeline", "models.esg_net.segments_esg_net"},
    "pipeline": {"encoders", "media", "models"},
    "training": {"data", "evaluation", "models"},
    "data": {"models.esg_net", "encoders.encoder"},
    "encoders": {"media", "models.esg_net.segments_esg_net"},
    "media": set(),
    "evaluation": {"data.sharing"},
    "visualization": {"evidence", "media", "models.esg_net.segments_esg_net"},
    "models": set(),
}
# Folders whose files are copied to a Hub repository, and the libraries that are there.
TRAVELLING = {
    ROOT / "models" / "esg_net": {"torch", "numpy", "transformers", "huggingface_hub"},
    ROOT / "encoders" / "i3d": {"torch", "numpy", "transformers", "huggingface_hub"},
    ROOT / "encoders" / "vggish": {"torch", "numpy", "transformers", "huggingface_hub"},
    ROOT / "evaluation" / "event_localization_map": {"numpy", "datasets", "evaluate"},
}


def imports_of(path: Path) -> list[str]:
    """Full names of all that a module imports, wherever in it; a relative import begins with its dots."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append("." * node.level + (node.module or ""))
    return names


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def may_import(path: Path, module: str) -> bool:
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    module = module.removeprefix("esg_transformers.")
    return any(is_within(module, allowed) for allowed in ALLOWED[part] | {part})


def is_hub_folder(folder: Path) -> bool:
    """Whether a folder is a thing of its own in one of the parts, such as models/esg_net."""
    return folder.parent.parent == ROOT


def test_imports_run_one_way():
    refused = [
        f"{name_of(path)} imports {module}"
        for path in MODULES
        for module in imports_of(path)
        if is_within(module, "esg_transformers") and not may_import(path, module)
    ]
    assert not refused


def test_only_what_travels_to_the_hub_imports_relatively_and_only_its_siblings():
    refused = [
        f"{name_of(path)} imports {module}"
        for path in MODULES
        for module in imports_of(path)
        if module.startswith(".")
        and not (is_hub_folder(path.parent) and (path.parent / f"{module.removeprefix('.')}.py").is_file())
    ]
    assert not refused


@pytest.mark.parametrize("folder", TRAVELLING, ids=name_of)
def test_what_travels_to_the_hub_needs_no_more_than_the_libraries_of_the_hub(folder):
    libraries = {
        module.partition(".")[0] for path in folder.glob("*.py") for module in imports_of(path) if module[0] != "."
    }
    assert libraries - sys.stdlib_module_names <= TRAVELLING[folder]


def test_no_module_is_named_after_nothing():
    vague = {"utils", "helpers", "common", "base", "core", "misc"}
    assert not {name_of(path) for path in MODULES if vague & {path.stem, *path.relative_to(ROOT).parts}}


def test_every_public_name_is_there():
    assert all(hasattr(esg_transformers, name) for name in esg_transformers.__all__)


def test_importing_the_package_registers_the_auto_classes(tmp_path):
    config = AutoConfig.for_model("esg_net", visual_size=4, audio_size=3, hidden_size=16, semantic_size=8)
    assert type(config) is esg_transformers.EsgNetConfig
    model = AutoModel.from_config(config)
    assert type(model) is esg_transformers.EsgNetForEventLocalization
    model.save_pretrained(tmp_path)
    esg_transformers.EsgNetProcessor(10.0, 2, 4, visual_size=4, audio_size=3).save_pretrained(tmp_path)
    assert type(AutoModel.from_pretrained(tmp_path)) is esg_transformers.EsgNetForEventLocalization
    processor = AutoProcessor.from_pretrained(tmp_path)
    assert type(processor) is esg_transformers.EsgNetProcessor
    assert processor.feature_grid == FeatureGrid(10.0, 2, 4)


def test_importing_the_package_registers_the_pipeline_task():
    _, task, _ = PIPELINE_REGISTRY.check_task("audio-visual-event-localization")
    assert task["impl"] is esg_transformers.AudioVisualEventLocalizationPipeline


def test_the_version_is_that_of_the_distribution():
    pyproject = (ROOT.parent / "pyproject.toml").read_text(encoding="utf-8")
    assert re.findall(r'^version = "(.+)"$', pyproject, re.MULTILINE) == [esg_transformers.__version__]
