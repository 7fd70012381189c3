import re
from pathlib import Path

import numpy as np
import pytest

from esg_transformers.annotations.events import AnnotatedVideo, Annotations, Event
from esg_transformers.annotations.unav import write_unav_annotations
from esg_transformers.cli.main import main
from esg_transformers.corpora.feature_sets import FEATURE_SETS
from esg_transformers.simulation.clips import make_workshop_clips

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Tests on a corpus or a model wait for clips to be drawn and encoded, and for the training."""
    for item in items:
        if {"clips", "corpus", "trained"} & set(
            getattr(item, "fixturenames", ())
        ) and "tests/cli" in item.path.as_posix():
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """Real video files of 6 s, odd numbers of them to evaluate on: `videos/` and `annotations.json`."""
    folder = tmp_path_factory.mktemp("clips")
    make_workshop_clips(folder, {"train": 4, "validation": 3, "test": 3}, duration=6.0, num_workers=1)
    return folder


@pytest.fixture(scope="session")
def corpus(clips, tmp_path_factory):
    """Corpus that `corpus build` makes of the clips."""
    folder = tmp_path_factory.mktemp("encoded") / "corpus"
    words = ["--videos", clips / "videos", "--annotations", clips / "annotations.json", "--num-workers", 0]
    assert main([str(word) for word in ("corpus", "build", *words, "--output", folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def trained(corpus, tmp_path_factory):
    """Model trained on the corpus for two epochs."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    settings = ["--size", "tiny", "--epochs", 2, "--warmup-epochs", 1, "--batch-size", 2, "--learning-rate", 1e-3]
    assert main([str(word) for word in ("train", "--corpus", corpus, "--output", folder, *settings)]) == 0
    return folder


@pytest.fixture(scope="session")
def write_features(tmp_path_factory):
    """`write_features("one-peace")`: random features of four videos of 10 s in their published layout.

    Gives the options that name them, with a folder for each call.
    """

    def write(name):
        folder, feature_set, random = tmp_path_factory.mktemp(name), FEATURE_SETS[name], np.random.default_rng(0)
        splits = {"-a_1": "train", "b": "train", "c": "validation", "d": "test"}
        events = (Event(1.0, 4.5, "speech"), Event(0.0, 9.0, "alarm"))
        videos = {video_id: AnnotatedVideo(video_id, 10.0, split, events) for video_id, split in splits.items()}
        write_unav_annotations(Annotations(videos, ("alarm", "speech")), folder / "annotations.json")
        streams = (
            (feature_set.visual_suffixes, feature_set.visual_size),
            (feature_set.audio_suffixes, feature_set.audio_size),
        )
        for suffixes, size in streams:
            for suffix in suffixes:
                for video_id in videos:
                    shape = (feature_set.grid.num_steps(10.0), size // len(suffixes))
                    np.save(folder / f"{video_id}{suffix}.npy", random.normal(size=shape).astype(np.float32))
        return {"--annotations": folder / "annotations.json", "--features": folder, "--feature-set": name}

    return write


@pytest.fixture
def run(capfd):
    """`run("train", "--corpus", ...)`: the exit code, the standard output and the standard error of a command.

    An option may be a dict of options and their values.
    """

    def run(*words):
        flat = [part for word in words for part in (sum(word.items(), ()) if isinstance(word, dict) else (word,))]
        capfd.readouterr()
        code = main([str(word) for word in flat])
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def refused(run):
    """As `run`, for a command that must fail: gives the error, a message of its own line and without a traceback."""

    def refused(*words):
        code, _, errors = run(*words)
        assert code == 1
        assert "Traceback" not in errors
        message = re.search(r"^esg-transformers: error: (.+)\n\Z", errors, re.MULTILINE | re.DOTALL)
        assert message, errors
        return message[1]

    return refused
