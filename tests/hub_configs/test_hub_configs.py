"""hub_configs: one folder for each repository that is published, complete but for the weights and the travelling code.

`conversion/build_hub_repo.py` adds both. `OWNER` in a card is whoever publishes it.
"""

import argparse
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoConfig, AutoModel, AutoProcessor, set_seed

from esg_transformers import EsgNetConfig
from esg_transformers.cli.commands import COMMANDS
from esg_transformers.corpora.feature_sets import FEATURE_SETS
from esg_transformers.encoders import i3d_vggish
from esg_transformers.encoders.spectral import SpectralEncoder
from esg_transformers.simulation.clips import make_workshop_clips
from esg_transformers.simulation.scenario import LABELS

ROOT = Path(__file__).parents[2]
HUB_CONFIGS = ROOT / "hub_configs"
ESG_NETS = [f"esg-net-{size}-unav100-{feature_set}" for size in ("base", "small") for feature_set in FEATURE_SETS]
UNAV100 = [*ESG_NETS, *(f"unav-unav100-{feature_set}" for feature_set in FEATURE_SETS)]
DEMO = "esg-net-tiny-workshop"
LOCALIZERS = [*UNAV100, DEMO]
ENCODERS = ["i3d-rgb-kinetics400", "i3d-flow-kinetics400", "vggish-audioset"]
ALL = LOCALIZERS + ENCODERS

SECTIONS = ["Model", "Use", "Intended use", "Limits", "Privacy", "Training", "Evaluation", "Licence", "Citation"]
# Those of huggingface/hub-docs, modelcard.md (commit 0d37e0c), that every card has; two more are in some.
KEYS = {"language", "license", "library_name", "pipeline_tag", "tags"}
# From the lists of huggingface.js, packages/tasks/src/pipelines.ts (commit 0057f40), which has no tag for events in
# time, and of hub-docs, docs/hub/repositories-licenses.md (commit 008d54d).
PIPELINE_TAGS = {"video-classification", "feature-extraction"}
LICENSES = {"apache-2.0", "unknown"}


def read_json(name, file):
    return json.loads((HUB_CONFIGS / name / file).read_text(encoding="utf-8"))


def read_card(name):
    return (HUB_CONFIGS / name / "README.md").read_text(encoding="utf-8")


def read_section(name, title):
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", read_card(name), re.MULTILINE | re.DOTALL)[1]


def read_rows(name):
    """The table of the section Model."""
    return dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", read_section(name, "Model"), re.MULTILINE))


def read_code(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def read_figures(text):
    """The rows of the demo's table: name, of the model, of the control."""
    return re.findall(r"^\| (.*mAP.*) \| ([\d.]+) \| ([\d.]+) \|$", text, re.MULTILINE)


def config_of(name, **fields):
    return AutoConfig.from_pretrained(HUB_CONFIGS / name, **fields)


def processor_of(name):
    return AutoProcessor.from_pretrained(HUB_CONFIGS / name)


def source_of(name):
    """Encoder or feature set of the features that a model takes."""
    return SpectralEncoder() if name == DEMO else FEATURE_SETS[name.partition("-unav100-")[2]]


# configurations


def test_there_is_a_folder_for_each_repository_and_none_besides():
    assert {path.name for path in HUB_CONFIGS.iterdir()} == set(ALL)
    files = {"config.json", "processor_config.json", "README.md"}
    assert all({path.name for path in (HUB_CONFIGS / name).iterdir()} == files for name in ALL)


@pytest.mark.parametrize("name", ALL)
def test_the_files_are_what_the_classes_of_the_package_save(name, tmp_path):
    config, processor = config_of(name), processor_of(name)
    for part in (config, processor):
        assert type(part).__module__.startswith("esg_transformers.")  # without `trust_remote_code`
        part.save_pretrained(tmp_path)
    for file in ("config.json", "processor_config.json"):
        held, saved = read_json(name, file), json.loads((tmp_path / file).read_text(encoding="utf-8"))
        of_the_hub = dict.fromkeys(("auto_map", "custom_pipelines", "transformers_version"))
        assert held | of_the_hub == saved | of_the_hub


@pytest.mark.parametrize("name", ALL)
def test_the_code_that_a_config_names_is_in_the_package(name):
    config = read_json(name, "config.json")
    auto_map = config["auto_map"] | read_json(name, "processor_config.json")["auto_map"]
    assert auto_map.keys() == {"AutoConfig", "AutoModel", "AutoProcessor"}
    assert [auto_map["AutoModel"].partition(".")[2]] == config["architectures"]
    pipelines = [pipeline["impl"] for pipeline in config.get("custom_pipelines", {}).values()]
    assert bool(pipelines) == (config["model_type"] in ("esg_net", "unav"))
    for reference in [*auto_map.values(), *pipelines]:
        module, _, class_name = reference.partition(".")
        [path] = (ROOT / "esg_transformers").rglob(f"{module}.py")
        module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        assert class_name in module.__all__


@pytest.mark.parametrize("name", LOCALIZERS)
def test_model_and_processor_take_the_same_features_and_say_from_which_encoder(name):
    spec = source_of(name).feature_spec
    assert processor_of(name).feature_spec == spec
    assert config_of(name).feature_spec == replace(spec, encoder=None)


def test_the_encoders_take_and_give_what_the_encoder_that_joins_them_does():
    configs, processors = [config_of(name) for name in ENCODERS], [processor_of(name) for name in ENCODERS]
    assert [config.num_channels for config in configs[:2]] == [3, 2]
    assert [processor.stream for processor in processors[:2]] == ["rgb", "flow"]
    assert processors[2].hop_seconds == i3d_vggish.GRID.step
    features = FEATURE_SETS["i3d-vggish"]
    assert sum(config.hidden_size for config in configs[:2]) == features.visual_size
    assert configs[2].hidden_size == features.audio_size


@pytest.mark.parametrize("name", [*ESG_NETS, DEMO])
def test_the_sizes_are_the_named_sizes_of_the_package(name):
    config = config_of(name)
    features = ("visual_size", "audio_size", "frame_rate", "feature_stride", "feature_window", "id2label")
    named = EsgNetConfig.of_size(name.split("-")[2], **{field: getattr(config, field) for field in features})
    assert config.to_diff_dict().keys() - named.to_diff_dict().keys() <= {"architectures", "auto_map", "dtype"}
    assert {field: getattr(config, field) for field in named.to_diff_dict() if field != "transformers_version"} == {
        field: getattr(named, field) for field in named.to_diff_dict() if field != "transformers_version"
    }


# classes


def test_the_models_of_unav100_have_the_same_100_classes():
    classes = [config_of(name).id2label for name in UNAV100]
    assert all(id2label == classes[0] for id2label in classes)
    assert sorted(classes[0]) == list(range(100)) and len(set(classes[0].values())) == 100


def test_the_classes_of_unav100_are_those_of_its_annotations():
    path = ROOT / ".." / "shared" / "data" / "unav100_annotations.json"
    if not path.exists():
        pytest.skip("the UnAV-100 annotation file is not beside the repository")
    videos = json.loads(path.read_text(encoding="utf-8"))["database"].values()
    classes = {event["label_id"]: event["label"] for video in videos for event in video["annotations"]}
    assert config_of(UNAV100[0]).id2label == classes


def test_the_classes_of_the_demo_are_those_of_its_clips():
    assert config_of(DEMO).id2label == dict(enumerate(LABELS))


# cards


@pytest.mark.parametrize("name", ALL)
def test_the_metadata_is_what_the_hub_documents(name):
    card = ModelCard(read_card(name))
    metadata = card.data.to_dict()
    optional = {"datasets": name in UNAV100, "model-index": name == DEMO}
    assert metadata.keys() == KEYS | {key for key, is_there in optional.items() if is_there}
    assert (metadata["language"], metadata["library_name"]) == ("en", "transformers")
    assert metadata["pipeline_tag"] in PIPELINE_TAGS and metadata["license"] in LICENSES
    assert metadata.get("datasets", ["ttgeng233/UnAV-100"]) == ["ttgeng233/UnAV-100"]
    assert config_of(name).model_type in metadata["tags"]
    assert str(card) == read_card(name)  # what `card.push_to_hub` would send


def test_the_figures_of_the_demo_are_the_measured_ones_and_called_simulated():
    results = (ROOT / "tests" / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    measured = read_figures(results.partition("\n## Size")[0])
    assert read_figures(read_card(DEMO)) == measured and len(measured) == 10
    figures = {row: float(value) for row, value, _ in measured}
    for result in ModelCard(read_card(DEMO)).data.eval_results:
        assert result.metric_value == figures[result.metric_name.partition(",")[0]]
        assert result.dataset_name.startswith("Simulated")


@pytest.mark.parametrize("name", ALL)
def test_every_card_has_the_same_sections_in_the_same_order(name):
    text = re.sub(r"^```.*?^```$", "", read_card(name), flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"^# (.+)$", text, re.MULTILINE) == [name]
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert all(read_section(name, title).strip() for title in SECTIONS)


@pytest.mark.parametrize("name", ALL)
def test_a_card_counts_the_parameters_of_the_model(name):
    with torch.device("meta"):
        model = AutoModel.from_config(config_of(name))
    assert read_rows(name)["parameters"] == f"{model.num_parameters():,}"


@pytest.mark.parametrize("name", ALL)
def test_a_card_tells_the_features_and_the_grid(name):
    config, rows = config_of(name), read_rows(name)
    if name in ENCODERS:
        grid, features = i3d_vggish.GRID, f"{config.hidden_size} channels"
    else:
        grid, features = config.feature_grid, f": {config.visual_size} visual and {config.audio_size} audio channels"
        assert rows["classes"].startswith(str(config.num_labels))
    covers = grid.window / grid.frame_rate
    assert features in rows["features"]
    assert rows["feature grid"] == f"{grid}: one feature every {grid.step:g} s that covers {covers:g} s"


@pytest.mark.parametrize("name", ALL)
def test_links_are_https_and_files_that_are_named_exist(name):
    links = re.findall(r"\]\((.*?)\)", read_card(name))
    assert links and all(link.startswith("https://") for link in links)
    files = re.findall(r"\b(?:conversion|tests)/[\w/]+\.\w+", read_card(name))
    modules = re.findall(r"\besg_transformers\.[a-z_.0-9]+[a-z0-9]", read_card(name))
    files += [f"{module.replace('.', '/')}.py" for module in modules]
    assert [file for file in files if not (ROOT / file).is_file()] == []


@pytest.mark.parametrize("name", ALL)
def test_commands_in_a_card_are_commands_with_these_options(name):
    for command in "".join(read_code(read_card(name), "console")).splitlines():
        program, script, *words = shlex.split(command.removeprefix("$ "))
        if program == "python":
            source = (ROOT / script).read_text(encoding="utf-8")
            assert all(f'"{word}"' in source for word in words if word.startswith("--"))
        else:
            assert program == "esg-transformers"
            parser = argparse.ArgumentParser()
            COMMANDS[script].add_options(parser)
            parser.parse_args(words)


# use


def add_random_weights(name, folder):
    """The repository with random weights in `folder`; a localizer with these is half sure of every class at first."""
    set_seed(0)
    config = config_of(name, prior_probability=0.5) if name in LOCALIZERS else config_of(name)
    AutoModel.from_config(config).save_pretrained(folder)
    shutil.copytree(HUB_CONFIGS / name, folder, dirs_exist_ok=True)


def run_use(name, folder, monkeypatch):
    """Namespace after running the code of the section Use beside the repository."""
    add_random_weights(name, folder / "OWNER" / name)
    monkeypatch.chdir(folder)
    [block] = read_code(read_section(name, "Use"), "python")
    namespace = {}
    exec(block, namespace)
    return namespace


def make_video(folder):
    make_workshop_clips(folder, {"test": 1}, duration=4.0, num_workers=1)
    (folder / "videos" / "workshop_test_0000.mp4").rename(folder / "video.mp4")


def make_feature_files(folder, feature_set):
    rng = np.random.default_rng(0)
    for stream in ("visual", "audio"):
        suffixes, size = getattr(feature_set, f"{stream}_suffixes"), getattr(feature_set, f"{stream}_size")
        for suffix in suffixes:
            np.save(folder / f"video{suffix}.npy", rng.standard_normal((20, size // len(suffixes)), np.float32))


@pytest.mark.slow
@pytest.mark.parametrize("name", LOCALIZERS)
def test_the_use_of_a_localizer_finds_events(name, tmp_path, monkeypatch):
    if name == DEMO:
        make_video(tmp_path)
    else:
        make_feature_files(tmp_path, source_of(name))
    events, labels = run_use(name, tmp_path, monkeypatch)["events"], set(config_of(name).id2label.values())
    assert events and all(0 <= e["start"] < e["end"] and e["label"] in labels and e["score"] > 0.3 for e in events)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "steps"), [*zip(ENCODERS, (1, 1, 10), strict=True)])
def test_the_use_of_an_encoder_gives_features(name, steps, tmp_path, monkeypatch):
    make_video(tmp_path)  # of 4 s: room for (4 - 0.975) / 0.32 = 9.5 hops
    feature = run_use(name, tmp_path, monkeypatch)["feature"]
    assert feature.shape == (steps, config_of(name).hidden_size) and feature.isfinite().all()


WITHOUT_THE_PACKAGE = """
import sys
sys.modules["esg_transformers"] = None  # importing it fails
import numpy as np
from transformers import pipeline

localizer = pipeline("audio-visual-event-localization", model=".", trust_remote_code=True)
random = np.random.default_rng(0)
visual, audio = random.random((9, 175), np.float32), random.random((9, 195), np.float32)
assert localizer({"visual_features": visual, "audio_features": audio, "duration": 2.0})
"""


@pytest.mark.slow
def test_the_demo_runs_without_the_package_by_the_code_that_its_config_names(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    add_random_weights(DEMO, folder)
    monkeypatch.syspath_prepend(ROOT / "conversion")
    for file, code in importlib.import_module("build_hub_repo").travelling_code(HUB_CONFIGS / DEMO).items():
        (folder / file).write_text(code, encoding="utf-8")
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules")}
    subprocess.run([sys.executable, "-c", WITHOUT_THE_PACKAGE], cwd=folder, env=environment, check=True, timeout=120)
