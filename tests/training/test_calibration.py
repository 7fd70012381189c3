import json

import pytest

from esg_transformers.evaluation import Counts, OperatingPoint
from esg_transformers.training.calibration import save_thresholds

POINTS = {"alarm": OperatingPoint(0.25, Counts(1, 0, 0), 0.0, True)}


def test_thresholds_are_written_and_everything_else_in_the_file_stays(tmp_path):
    path = tmp_path / "processor_config.json"
    path.write_text(json.dumps({"site": "gate 3", "thresholds": {"speech": 0.5}}))
    save_thresholds(tmp_path, POINTS)
    assert json.loads(path.read_text()) == {"site": "gate 3", "thresholds": {"alarm": 0.25}}
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_without_a_processor_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"processor_config\.json.*folder of a model"):
        save_thresholds(tmp_path, POINTS)
    assert list(tmp_path.iterdir()) == []
