import numpy as np

from esg_transformers.corpora.dataset import EventCorpus
from esg_transformers.simulation.features import SimulatedVideos


def test_a_simulated_corpus_is_written_and_holds_the_videos_of_the_simulation(run, refused, tmp_path):
    folder = tmp_path / "corpus"
    words = ["corpus", "simulate", "--output", folder, "--classes", 3, "--train", 3, "--validation", 0, "--test", 2]
    code, output, _ = run(*words, "--seed", 4, "--difficulty", 0.5)
    assert (code, output) == (0, f"Wrote 5 simulated videos to {folder}.\n")
    assert {path.name for path in folder.iterdir()} == {"README.md", "corpus.json", "data"}
    train = EventCorpus(folder, "train")
    assert len(train) == 3 and len(EventCorpus(folder, "test")) == 2
    videos = SimulatedVideos(train.video_ids, num_classes=3, seed=4, difficulty=0.5)
    assert (train.labels, train.feature_spec) == (videos.labels, videos.feature_spec)
    for stored, simulated in zip(train, (videos[index] for index in range(3)), strict=True):
        np.testing.assert_array_equal(stored["segments"], simulated["segments"])
        np.testing.assert_array_equal(stored["visual_features"], simulated["visual_features"].astype(np.float16))
    assert "There is a corpus at" in refused(*words)


def test_no_videos_or_fewer_are_refused(refused, tmp_path):
    counts = {"--train": 0, "--validation": 0, "--test": 0}
    for changes in ({}, {"--train": 3, "--test": -1}):
        message = refused("corpus", "simulate", "--output", tmp_path / "corpus", counts | changes)
        assert message.startswith("Each split needs 0 or more videos")
    assert not (tmp_path / "corpus").exists()
