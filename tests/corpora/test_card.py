import pytest
import yaml

from esg_transformers.corpora.card import dataset_card
from esg_transformers.corpora.dataset import EventCorpus
from esg_transformers.corpora.manifest import Manifest, Shard


@pytest.fixture
def card(spec):
    shards = [Shard("", num_examples, 1, "") for num_examples in (1500, 34, 20)]
    splits = {"train": tuple(shards[:2]), "test": (shards[2],)}
    return dataset_card("yard", Manifest(spec, ("dog barking", "speech"), splits))


def test_the_header_names_splits_and_columns_for_datasets(card):
    header = yaml.safe_load(card.split("---")[1])
    assert header["pretty_name"] == "yard"
    assert header["configs"][0]["data_files"] == [
        {"split": "train", "path": "data/train-*"},
        {"split": "test", "path": "data/test-*"},
    ]
    columns = [column["name"] for column in header["dataset_info"]["features"]]
    names = ["video_id", "duration", "has_visual", "has_audio", "visual_features", "audio_features", "events"]
    assert columns == names


def test_the_page_has_the_numbers_of_videos_and_the_description_of_the_features(card):
    for fact in (
        "1,554 videos, 2 classes",
        "| train | 1,534 |",
        "| test | 20 |",
        "- encoder: test, version 1",
        "- feature grid: 10 frames/s, stride 5, window 10",
        "- channels: 6 visual, 4 audio",
    ):
        assert fact in card


def test_the_code_of_the_card_opens_the_corpus(tmp_path, monkeypatch, make_example, write):
    (tmp_path / "path" / "to").mkdir(parents=True)
    write(tmp_path / "path" / "to" / "yard", {"train": [make_example("a")]})
    card = (tmp_path / "path" / "to" / "yard" / "README.md").read_text()
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(card.split("```python")[1].split("```")[0], names)
    assert isinstance(names["train"], EventCorpus)
