import json
from pathlib import Path

import numpy as np
import pytest
from hub_server import Repository
from huggingface_hub import ModelCard
from tiny_models import tiny_esg_net

from esg_transformers import EsgNetForEventLocalization, EsgNetProcessor
from esg_transformers.evaluation import mean_average_precision
from esg_transformers.localization.pipeline import TASK, AudioVisualEventLocalizationPipeline
from esg_transformers.models.esg_net import sharing_esg_net

CODE = {path.name for path in Path(sharing_esg_net.__file__).parent.glob("*_esg_net.py")}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a small model and its processor, and the features of two videos."""
    folder, random = tmp_path_factory.mktemp("saved"), np.random.default_rng(0)
    # The prior makes the untrained model find events.
    model = tiny_esg_net(visual_size=12, audio_size=7, prior_probability=0.3, id2label={0: "alarm", 1: "speech"})
    model.save_pretrained(folder / "model")
    EsgNetProcessor(visual_size=12, audio_size=7, thresholds={"alarm": 0.2}).save_pretrained(folder / "model")
    videos = {
        f"{stream}_{i}": random.normal(size=(20 + i, size)) for i in (0, 1) for stream, size in (("v", 12), ("a", 7))
    }
    np.savez(folder / "features.npz", **{name: stream.astype(np.float32) for name, stream in videos.items()})
    return folder


PUSH = """
import json, sys
import esg_transformers
from transformers import AutoModel, AutoProcessor, pipeline
folder, task = sys.argv[1:]
model, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
localizer = pipeline(task, model=folder)
heads = [
    [model.push_to_hub("user/parts").oid, processor.push_to_hub("user/parts").oid],
    [localizer.push_to_hub("user/whole").oid],
]
again = [[model.push_to_hub("user/parts").oid], [localizer.push_to_hub("user/whole").oid]]
print(json.dumps([heads, again]))
"""


@pytest.fixture(scope="module")
def pushed(hub_of_module, python, saved):
    """The commits of `model.push_to_hub`, `processor.push_to_hub` and `pipeline.push_to_hub`, and of second pushes."""
    return python(hub_of_module, PUSH, saved / "model", TASK)


TELL = """
import hashlib, json, sys
import numpy as np
import torch

def tell(model, processor, localizer, path):
    features = np.load(path)
    videos = [
        {"visual_features": features[f"v_{i}"], "audio_features": features[f"a_{i}"], "duration": 7.5} for i in (0, 1)
    ]
    sha256 = lambda tensor: hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
    inputs = processor(*([video[name] for video in videos] for name in ("visual_features", "audio_features")))
    with torch.no_grad():
        outputs = model.eval()(**inputs)
    return json.loads(json.dumps([
        {name: [str(tensor.dtype), sha256(tensor)] for name, tensor in model.state_dict().items()},
        processor.to_dict(),
        [sha256(outputs[name]) for name in ("logits", "offsets", "points", "point_mask")],
        [localizer(videos, threshold=0.0, batch_size=2), localizer(videos[0])],
    ]))
"""
LOAD = """
import json, sys
kind, parts, whole, features, task = sys.argv[1:]
if kind == "with the package":
    import esg_transformers
    trust = {}
else:
    sys.modules["esg_transformers"] = None  # importing it fails
    trust = {"trust_remote_code": True}
from transformers import AutoModel, AutoProcessor, pipeline
model, processor = AutoModel.from_pretrained(parts, **trust), AutoProcessor.from_pretrained(parts, **trust)
localizer = pipeline(task, model=parts, **trust)
assert type(pipeline(task, model=whole, **trust)).__name__ == type(localizer).__name__
assert AutoModel.from_pretrained(whole, **trust).state_dict().keys() == model.state_dict().keys()
modules = [type(part).__module__ for part in (model, processor, localizer)]
print(json.dumps([modules, tell(model, processor, localizer, features)]))
"""


@pytest.mark.parametrize("kind", ["with the package", "without the package"])
def test_what_is_pushed_is_loaded_by_a_fresh_process_bit_for_bit(hub, python, saved, pushed, kind):
    modules, told = python(
        hub, TELL + LOAD, kind, "user/parts", "user/whole", saved / "features.npz", TASK, token="hf_token_of_other"
    )
    origin = "esg_transformers" if kind == "with the package" else "transformers_modules"
    assert {module.partition(".")[0] for module in modules} == {origin}
    scope: dict = {}
    exec(TELL, scope)
    model, processor = (cls.from_pretrained(saved / "model") for cls in (EsgNetForEventLocalization, EsgNetProcessor))
    localizer = AudioVisualEventLocalizationPipeline(model=model, processor=processor, task=TASK)
    expected = scope["tell"](model, processor, localizer, saved / "features.npz")
    assert expected[3][1]  # events are found
    assert told == expected


def test_a_saved_folder_holds_weights_and_json_only(saved):
    names = {path.name for path in (saved / "model").iterdir()}
    assert names == {"config.json", "model.safetensors", "processor_config.json"}
    assert "auto_map" not in json.loads((saved / "model" / "config.json").read_text())


def test_the_repositories_hold_the_saved_bytes_the_code_and_a_card(hub, saved, pushed):
    files, whole = hub.files("model", "user/parts"), hub.files("model", "user/whole")
    assert files == whole
    local = {path.name: path.read_bytes() for path in (saved / "model").iterdir()}
    assert files.keys() == {".gitattributes", "README.md"} | local.keys() | CODE
    assert files["model.safetensors"] == local["model.safetensors"]
    config, processor = (json.loads(files[name]) for name in ("config.json", "processor_config.json"))
    assert config.pop("custom_pipelines").keys() == {TASK}
    assert config.pop("auto_map").keys() == {"AutoConfig", "AutoModel"}
    assert processor.pop("auto_map").keys() == {"AutoProcessor"}
    assert config == json.loads(local["config.json"])
    assert processor == json.loads(local["processor_config.json"])
    for name in ("parts", "whole"):
        assert ModelCard(hub.files("model", f"user/{name}")["README.md"].decode()).data.library_name == "transformers"


def test_a_second_push_of_the_same_makes_no_commit(hub, pushed):
    (parts, whole), (parts_again, whole_again) = pushed
    assert [commit.oid for commit in hub.history("model", "user/parts")[:-1]] == parts[::-1]
    assert [commit.oid for commit in hub.history("model", "user/whole")[:-1]] == whole
    assert (parts_again, whole_again) == (parts[-1:], whole)


PUSH_OTHERS = """
import json, sys
from transformers import AutoModel
from esg_transformers import I3dConfig, I3dModel, I3dProcessor, UnavConfig, UnavForEventLocalization, VggishProcessor
UnavForEventLocalization(UnavConfig(**json.loads(sys.argv[1]))).push_to_hub("user/unav")
VggishProcessor().push_to_hub("user/vggish")
I3dProcessor("flow").save_pretrained("i3d", push_to_hub=True, repo_id="user/i3d")
I3dConfig(num_channels=2).push_to_hub("user/i3d")
AutoModel.from_pretrained("user/parts").save_pretrained("again")
print()
print(json.dumps(json.load(open("again/config.json"))))
"""
LOAD_OTHERS = """
import json, sys
sys.modules["esg_transformers"] = None  # importing it fails
from transformers import AutoConfig, AutoModel, AutoProcessor
loaded = [
    AutoModel.from_pretrained("user/unav", trust_remote_code=True),
    AutoProcessor.from_pretrained("user/vggish", trust_remote_code=True),
    AutoProcessor.from_pretrained("user/i3d", trust_remote_code=True),
    AutoConfig.from_pretrained("user/i3d", trust_remote_code=True),
]
print(json.dumps([type(part).__name__ for part in loaded]))
"""


def test_unav_and_the_encoders_follow_the_same_rule(hub, python, pushed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sizes = {"visual_size": 12, "audio_size": 7, "hidden_size": 16, "intermediate_size": 24, "pyramid_levels": 2}
    saved_again = python(hub, PUSH_OTHERS, json.dumps(sizes | {"dependency_size": 4, "head_size": 12}))
    assert not {"auto_map", "custom_pipelines"} & saved_again.keys()
    assert {path.name for path in (tmp_path / "again").iterdir()} == {"config.json", "model.safetensors"}
    expected = ["UnavForEventLocalization", "VggishProcessor", "I3dProcessor", "I3dConfig"]
    assert python(hub, LOAD_OTHERS) == expected
    assert "pipeline_esg_net.py" in hub.files("model", "user/unav")
    i3d = {name for name in hub.files("model", "user/i3d") if name.endswith(".py")}
    assert i3d == {"configuration_i3d.py", "processing_i3d.py", "sharing_esg_net.py"}


WITHOUT_TRUST = """
import json, sys
sys.modules["esg_transformers"] = None  # importing it fails
from transformers import AutoModel, AutoProcessor, pipeline
refused = []
for load in (AutoModel.from_pretrained, AutoProcessor.from_pretrained, lambda name: pipeline(sys.argv[1], model=name)):
    try:
        load("user/whole", **({} if load.__name__ == "<lambda>" else {"trust_remote_code": False}))
    except ValueError as error:
        refused.append("trust_remote_code" in str(error))
print()  # the question whether to trust has no end of line
print(json.dumps([refused, [name for name in sys.modules if name.startswith("transformers_modules.")]]))
"""


def test_without_the_package_no_code_of_a_repository_runs_unless_it_is_trusted(hub, python, pushed):
    assert python(hub, WITHOUT_TRUST, TASK) == [[True, True, True], []]


# the metric

PREDICTIONS = [
    [{"start": 0.0, "end": 3.0, "label": "dog", "score": 0.9}],
    [
        {"start": 1.0, "end": 2.0, "label": "cat", "score": 0.25},
        {"start": 0.1, "end": 0.7, "label": "dog", "score": 0.3},
    ],
]
REFERENCES = [[{"start": 0.0, "end": 4.0, "label": "dog"}], [{"start": 1.0, "end": 2.5, "label": "cat"}]]

PUSH_METRIC = """
import contextlib, io, json, sys
from esg_transformers.cli.main import main
output = io.StringIO()
with contextlib.redirect_stdout(output):
    codes = [main(["metric", "push", *words]) for words in json.loads(sys.argv[1])]
print(json.dumps([codes, output.getvalue().splitlines()]))
"""
COMPUTE = """
import json, sys
sys.modules["esg_transformers"] = None  # importing it fails
import evaluate
metric = evaluate.load(sys.argv[1])
predictions, references = json.loads(sys.argv[2])
print(json.dumps(metric.compute(predictions=predictions, references=references)))
"""


def test_a_pushed_metric_gives_the_same_figures_without_the_package_and_is_pushed_once(hub, python):
    codes, lines = python(hub, PUSH_METRIC, json.dumps([["user/event_localization_map"]] * 2))
    head, first = hub.history("space", "user/event_localization_map")
    assert (codes, first.title) == ([0, 0], "initial commit")
    assert lines == [f"The metric is at {hub.endpoint}/spaces/user/event_localization_map/commit/{head.oid}"] * 2
    figures = python(hub, COMPUTE, "user/event_localization_map", json.dumps([PREDICTIONS, REFERENCES]))
    assert figures == mean_average_precision(PREDICTIONS, REFERENCES)
    card = ModelCard(hub.files("space", "user/event_localization_map")["README.md"].decode())
    assert (card.data.title, card.data.sdk) == ("Event localization map", "static")
    assert 'evaluate.load("user/event_localization_map")' in card.text


def test_a_metric_can_be_private_and_never_replaces_another_space(hub, python):
    game = Repository(private=False)
    files = {"app.py": hub.store(b"play()", is_lfs=False)}
    game.add("refs/heads/main", None, files, "user", "A game")
    hub.repositories["space", "user/game"] = game
    assert python(hub, PUSH_METRIC, json.dumps([["user/scores", "--private"], ["user/game"]]))[0] == [0, 1]
    assert hub.repositories["space", "user/scores"].private
    assert hub.files("space", "user/game") == {"app.py": b"play()"}
