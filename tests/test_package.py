import ast
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import esg_transformers

ROOT = Path(esg_transformers.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))

# A room is a folder, or a module on the top level. It imports rooms of lower floors only: none above, none beside it.
FLOORS = {
    "models": 1,
    "media": 1,
    "files": 1,
    "workers": 1,
    "hub": 1,
    "encoders": 2,
    "annotations": 2,
    "evaluation": 2,
    "corpora": 3,
    "localization": 4,
    "simulation": 4,
    "visualization": 5,
    "training": 6,
    "cli": 7,
    "moved": 7,
    "registration": 7,
    "__init__": 8,
    "__main__": 8,
}
MAX_LINES = 500  # of a file
LONGER = {"models/esg_net/modeling_esg_net.py"}  # the network, read from top to bottom
MAX_BODY = 50  # lines of a function after its docstring
MAX_BODY_OF_TRAINING = 40
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


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def room_of_module(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function from its first statement after the docstring to its end."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def is_hub_folder(folder: Path) -> bool:
    """True for a folder inside a room, such as models/esg_net."""
    return folder.parent.parent == ROOT


def test_every_room_has_a_floor():
    assert {room_of(path) for path in MODULES} == FLOORS.keys()


def test_imports_run_downwards():
    refused = {
        f"{name_of(path)} imports {module}"
        for path in MODULES
        for module in imports_of(path)
        if is_within(module, "esg_transformers")
        and room_of_module(module) != room_of(path)
        and FLOORS[room_of_module(module)] >= FLOORS[room_of(path)]
    }
    assert refused == set()


def test_conversion_stands_beside_the_commands():
    conversion = sorted((ROOT.parent / "conversion").rglob("*.py"))
    assert conversion
    refused = [
        f"{path.name} imports {module}"
        for path in conversion
        for module in imports_of(path)
        if is_within(module, "esg_transformers.cli")
    ]
    assert not refused


def test_no_file_is_longer_than_500_lines_but_the_network():
    lines = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    long = {name for name, count in lines.items() if count > MAX_LINES and name not in LONGER}
    assert long == set()


def test_no_function_body_is_longer_than_50_lines_nor_than_40_in_training():
    long = {
        f"{name_of(path)}:{node.name}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and body_lines(node) > (MAX_BODY_OF_TRAINING if room_of(path) == "training" else MAX_BODY)
    }
    assert long == set()


def test_every_room_has_a_readme():
    rooms = {path.parent for path in MODULES if path.name == "__init__.py" and path.parent.parent == ROOT}
    missing = {room.name for room in rooms if not (room / "README.md").is_file()}
    assert missing == set()


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
        module.partition(".")[0]
        for path in folder.glob("*.py")
        for module in imports_of(path)
        if module[0] != "." and not is_within(module, "esg_transformers.models.esg_net")  # which travel along
    }
    assert libraries - sys.stdlib_module_names <= TRAVELLING[folder]


def test_no_module_is_named_after_nothing():
    vague = {"utils", "helpers", "common", "base", "core", "misc"}
    assert not {name_of(path) for path in MODULES if vague & {path.stem, *path.relative_to(ROOT).parts}}


def test_every_public_name_is_there():
    assert all(hasattr(esg_transformers, name) for name in esg_transformers.__all__)
    assert set(esg_transformers.__all__) <= set(dir(esg_transformers))
    with pytest.raises(AttributeError, match="no attribute 'EsgNet'"):
        esg_transformers.EsgNet  # noqa: B018


HEAVY = "'accelerate', 'av', 'datasets', 'evaluate', 'matplotlib', 'numpy', 'torch', 'transformers'"
# One registration after another, each as soon as transformers has what it goes into.
USE = """
from transformers import AutoConfig
assert type(AutoConfig.for_model("esg_net")) is esg_transformers.EsgNetConfig
from transformers import AutoModel
assert type(AutoModel.from_pretrained(folder)) is esg_transformers.EsgNetForEventLocalization
from transformers import AutoProcessor
assert type(AutoProcessor.from_pretrained(folder)) is esg_transformers.EsgNetProcessor
from transformers import pipeline
localizer = pipeline("audio-visual-event-localization", folder)
assert type(localizer) is esg_transformers.AudioVisualEventLocalizationPipeline
"""


def in_a_new_process(*lines: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    sizes = {"visual_size": 4, "audio_size": 3, "hidden_size": 16, "semantic_size": 8}
    esg_transformers.EsgNetForEventLocalization(esg_transformers.EsgNetConfig(**sizes)).save_pretrained(folder)
    esg_transformers.EsgNetProcessor(25.0, 8, 24, visual_size=4, audio_size=3).save_pretrained(folder)
    return folder


def test_importing_the_package_imports_no_library():
    ended = in_a_new_process("import esg_transformers, sys", f"assert not {{{HEAVY}}} & set(sys.modules)")
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "imports",
    [
        "import esg_transformers",
        "import esg_transformers, transformers",
        "import transformers.pipelines, esg_transformers",
    ],
)
def test_the_import_of_the_package_registers_its_classes_whichever_library_comes_first(model_folder, imports):
    ended = in_a_new_process(imports, f"folder = {str(model_folder)!r}", USE)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "module",
    [
        "esg_transformers.localization.pipeline",
        "esg_transformers.models.esg_net.processing_esg_net",
        "transformers.trainer",
    ],
)
def test_whichever_module_is_imported_first_does_not_meet_itself(module):
    """A registration made in the middle of an import would import a module that is half executed."""
    ended = in_a_new_process(
        f"import esg_transformers, {module}",
        "from transformers.pipelines import PIPELINE_REGISTRY",
        "PIPELINE_REGISTRY.check_task('audio-visual-event-localization')",
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
def test_the_finder_leaves_when_everything_is_registered():
    ended = in_a_new_process(
        "import sys, esg_transformers",
        "[finder] = [x for x in sys.meta_path if type(x).__module__ == 'esg_transformers.registration']",
        "from esg_transformers import *",
        "assert finder not in sys.meta_path",
    )
    assert ended.returncode == 0, ended.stderr


def test_the_version_is_that_of_the_distribution():
    assert importlib.metadata.version("esg-transformers") == esg_transformers.__version__
