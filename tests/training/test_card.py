import pytest
from huggingface_hub import ModelCard

from esg_transformers.annotations.events import AnnotatedVideo, Annotations, Event
from esg_transformers.evaluation import Counts, OperatingPoint
from esg_transformers.models.esg_net.grid_esg_net import EncoderId
from esg_transformers.training.card import model_card

ANNOTATIONS = Annotations(
    {
        "a": AnnotatedVideo("a", 1800.0, "train", (Event(1.0, 2.0, "alarm"), Event(3.0, 4.0, "alarm"))),
        "b": AnnotatedVideo("b", 900.0, "validation", (Event(1.0, 2.0, "door | gate"),)),
    },
    ("alarm", "door | gate"),
)


def card(**changes):
    values = {
        "name": "gate 3",
        "base_model": "someone/base",
        "known_labels": ["alarm"],
        "corpus": "site",
        "annotations": ANNOTATIONS,
        "encoder": EncoderId("spectral", "1"),
        "metrics": {"validation": {"mAP@0.5": 0.5, "average_map": 0.4321, "per_class": {"alarm": 0.25}}},
        "thresholds": {
            "alarm": OperatingPoint(0.25, Counts(1, 1, 0), 0.0, True),
            "door | gate": OperatingPoint(0.5, Counts(0, 0, 0), 0.0, False),
        },
        "settings": {"epochs": 3},
    }
    return ModelCard(model_card(**values | changes))


def test_the_card_has_a_table_of_the_data():
    rows = card().content.splitlines()
    assert "| videos | 1 | 1 |" in rows
    assert "| hours | 0.50 | 0.25 |" in rows
    assert "| events: alarm | 2 | 0 |" in rows
    assert r"| events: door \| gate | 0 | 1 |" in rows


def test_the_card_has_the_figures_in_percent():
    assert "| average mAP | 43.2 |" in card().content
    assert "| AP: alarm | 25.0 |" in card().content
    [result] = card().data.eval_results
    assert (result.dataset_name, result.dataset_split, result.metric_value) == ("site", "validation", 43.21)


def test_a_star_marks_the_thresholds_that_miss_their_target():
    rows = card().content.splitlines()
    assert "| alarm | 0.250 | 1.00 | 0.50 | 0.0 |" in rows
    assert any(row.startswith(r"| door \| gate * | 0.500 |") for row in rows)


@pytest.mark.parametrize(
    ("base_model", "expected"), [("someone/base", "someone/base"), ("./models/base", None), ("/models/base", None)]
)
def test_only_a_repository_is_the_base_model_that_the_hub_links_to(base_model, expected):
    assert card(base_model=base_model).data.base_model == expected
    assert f"fine-tuned from `{base_model}`" in card(base_model=base_model).content


def test_what_is_not_known_is_said():
    assert "encoder not known, version not known" in card(encoder=None).content
    assert "It knew none of the classes before." in card(known_labels=[]).content
