import importlib
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import esg_transformers
from esg_transformers.moved import AS_IN_0_1, MOVED, PACKAGE, new_names

NAMES = [(old, name) for old in MOVED for name in new_names(old)]
FOLDER = Path(esg_transformers.__file__).parent
GONE = [old for old in MOVED if MOVED[old] and not [*FOLDER.glob(f"{old.replace('.', '/')}*")]]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("old", "name"), NAMES, ids=".".join)
def test_a_name_is_found_at_its_path_of_0_1_with_a_warning_that_says_the_new_one(old, name):
    module_name, new_name = new_names(old)[name]
    module = importlib.import_module(module_name)
    module_of_0_1 = importlib.import_module(f"{PACKAGE}.{old}")
    with pytest.warns(
        DeprecationWarning, match=rf"`{PACKAGE}\.{old}\.{name}` .*`from {module_name} import {new_name}`"
    ):
        value = getattr(module_of_0_1, name)
    assert value is vars(module)[new_name] or f"{old}.{name}" in AS_IN_0_1


@pytest.mark.parametrize("old", GONE)
def test_the_import_of_a_module_that_is_gone_names_those_that_have_its_names(old, monkeypatch):
    monkeypatch.delitem(sys.modules, f"{PACKAGE}.{old}", raising=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        importlib.import_module(f"{PACKAGE}.{old}")
    [message] = [str(warning.message) for warning in caught if f"`{PACKAGE}.{old}`" in str(warning.message)]
    assert all(f"`{PACKAGE}.{module}`" in message for module in MOVED[old])


def test_a_program_of_0_1_runs_and_is_warned_at_its_own_lines(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "from esg_transformers.data.formats import write_annotations\n"
        "import esg_transformers.data.annotations\n"
        "print(esg_transformers.data.annotations.Event(0.0, 1.0, 'alarm').end)\n"
        "from esg_transformers.data.annotations import *\n"
        "print(Event(0.0, 2.0, 'alarm').end)\n"
    )
    ended = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "1.0\n2.0\n"), ended.stderr
    for line in (1, 2, 3, 4):
        assert f"program.py:{line}: DeprecationWarning: " in ended.stderr
    assert "from esg_transformers.annotations.formats import write_annotations" in ended.stderr


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_corpus_is_written_and_read_in_the_manner_of_0_1(tmp_path):
    from esg_transformers.data.corpus import EventCorpus, write_corpus

    from esg_transformers.models.esg_net.segments_esg_net import FeatureGrid

    example = {
        "video_id": "a",
        "duration": 10.0,
        "visual_features": np.ones((19, 6), np.float16),
        "audio_features": None,
        "segments": np.array([[0.5, 2.0]]),
        "labels": np.array([0]),
    }
    said = {"labels": ("alarm",), "grid": FeatureGrid(10.0, 5, 10), "encoder": {"name": "test", "version": "1"}}
    write_corpus(tmp_path / "corpus", {"train": [example]}, **said, visual_size=6, audio_size=4)
    corpus = EventCorpus(tmp_path / "corpus", "train")
    assert (corpus.labels, corpus.grid, corpus.encoder) == tuple(said.values())
    assert (corpus.visual_size, corpus.audio_size, len(corpus)) == (6, 4, 1)
    assert type(pickle.loads(pickle.dumps(corpus))) is EventCorpus


def test_what_0_1_did_not_have_is_not_found_at_its_paths():
    with pytest.raises(ImportError, match="cannot import name 'nothing' from 'esg_transformers.visualization'"):
        from esg_transformers.visualization import nothing  # noqa: F401
    with pytest.raises(ModuleNotFoundError, match="No module named 'esg_transformers.data.nothing'"):
        importlib.import_module("esg_transformers.data.nothing")
