import ast
import json
from pathlib import Path

import pytest

from esg_transformers import EsgNetConfig, EsgNetForEventLocalization, EsgNetModel, EsgNetProcessor, I3dProcessor
from esg_transformers.models.esg_net import sharing_esg_net
from esg_transformers.models.esg_net.sharing_esg_net import TASK, add_code, code_of
from esg_transformers.models.unav import modeling_unav

SIZES = {"visual_size": 12, "audio_size": 7, "hidden_size": 16, "num_attention_heads": 2, "pyramid_levels": 2}
OTHERS = {"semantic_size": 8, "head_size": 12, "intermediate_size": 24, "num_dependency_layers": 1}


def relative_imports(code):
    return {node.module for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom) and node.level}


def test_the_code_of_unav_is_flat_and_complete():
    files = code_of([Path(modeling_unav.__file__)])
    assert {"modeling_unav.py", "configuration_unav.py", "loss_esg_net.py", "layers_esg_net.py"} <= files.keys()
    for code in files.values():
        assert {f"{module}.py" for module in relative_imports(code)} <= files.keys()
        assert not [line for line in code.splitlines() if line.startswith(("from esg_tr", "import esg_tr"))]


def test_the_json_of_a_folder_names_the_code_that_is_added(tmp_path):
    model = EsgNetForEventLocalization(EsgNetConfig(**SIZES, **OTHERS))
    processor = EsgNetProcessor(visual_size=12, audio_size=7)
    for part in (model, processor):
        part.save_pretrained(tmp_path)
        add_code(part, tmp_path)
    config, saved = (json.loads((tmp_path / f"{kind}config.json").read_text()) for kind in ("", "processor_"))
    assert config["auto_map"] == {
        "AutoConfig": "configuration_esg_net.EsgNetConfig",
        "AutoModel": "modeling_esg_net.EsgNetForEventLocalization",
    }
    assert saved["auto_map"] == {"AutoProcessor": "processing_esg_net.EsgNetProcessor"}
    assert config["custom_pipelines"][TASK]["impl"] == "pipeline_esg_net.EsgNetPipeline"
    folder = Path(sharing_esg_net.__file__).parent
    assert {path.name for path in tmp_path.glob("*.py")} == {path.name for path in folder.glob("*_esg_net.py")}


def test_a_model_without_heads_has_no_pipeline(tmp_path):
    model = EsgNetModel(EsgNetConfig(**SIZES, **OTHERS))
    model.save_pretrained(tmp_path)
    add_code(model, tmp_path)
    assert "custom_pipelines" not in json.loads((tmp_path / "config.json").read_text())
    assert not (tmp_path / "pipeline_esg_net.py").exists()


@pytest.mark.parametrize("part", [EsgNetConfig(), I3dProcessor()])
def test_a_folder_without_the_json_of_a_part_stays_as_it_is(part, tmp_path):
    add_code(part, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_config_loaded_with_the_package_forgets_the_code_of_its_folder(tmp_path):
    EsgNetConfig(**SIZES).save_pretrained(tmp_path)
    add_code(EsgNetConfig(**SIZES), tmp_path)
    EsgNetConfig.from_pretrained(tmp_path).save_pretrained(tmp_path / "again")
    assert "auto_map" not in json.loads((tmp_path / "again" / "config.json").read_text())
