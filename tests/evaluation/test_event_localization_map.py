import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import evaluate
import pytest

from esg_transformers.evaluation import METRIC_PATH, mean_average_precision

PREDICTIONS = [
    [{"start": 0.0, "end": 3.0, "label": "dog", "score": 0.9}],
    [],
    [
        {"start": 1.0, "end": 2.0, "label": "cat", "score": 0.25},
        {"start": 0.1, "end": 0.7, "label": "dog", "score": 0.3},
    ],
]
REFERENCES = [
    [{"start": 0.0, "end": 4.0, "label": "dog"}],
    [{"start": 5.0, "end": 6.0, "label": "cat"}],
    [{"start": 1.0, "end": 2.0, "label": "cat"}],
]


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("the metric opened a connection")

    monkeypatch.setattr("socket.socket.connect", refuse)


def load(tmp_path, **kwargs):
    return evaluate.load(METRIC_PATH, cache_dir=str(tmp_path), **kwargs)


def test_the_metric_gives_the_result_of_the_function(tmp_path):
    expected = mean_average_precision(PREDICTIONS, REFERENCES)
    assert load(tmp_path).compute(predictions=PREDICTIONS, references=REFERENCES) == expected


def test_events_added_in_pieces_give_the_same_result(tmp_path):
    metric = load(tmp_path)
    metric.add_batch(predictions=PREDICTIONS[:2], references=REFERENCES[:2])
    metric.add(prediction=PREDICTIONS[2], reference=REFERENCES[2])
    assert metric.compute() == mean_average_precision(PREDICTIONS, REFERENCES)


def test_thresholds_are_passed_on(tmp_path):
    result = load(tmp_path).compute(predictions=PREDICTIONS, references=REFERENCES, tiou_thresholds=[0.5])
    assert result == mean_average_precision(PREDICTIONS, REFERENCES, (0.5,))


def test_a_score_keeps_all_its_digits(tmp_path):
    # 0.5 and 0.5 + 1e-12 are equal in float32. As a tie, the wrong event would stay first.
    predictions = [[{"start": 5.0, "end": 6.0, "label": "dog", "score": 0.5}]]
    predictions[0].append({"start": 0.0, "end": 4.0, "label": "dog", "score": 0.5 + 1e-12})
    result = load(tmp_path).compute(predictions=predictions, references=REFERENCES[:1])
    assert result["average_map"] == 1.0


def test_two_processes_are_scored_as_one(tmp_path):
    def run(process_id):
        shard = slice(0, 2) if process_id == 0 else slice(2, 3)
        metric = load(tmp_path, num_process=2, process_id=process_id, experiment_id="two")
        metric.add_batch(predictions=PREDICTIONS[shard], references=REFERENCES[shard])
        return metric.compute()

    with ThreadPoolExecutor(2) as pool:
        main, other = pool.map(run, range(2))
    assert other is None
    assert main == mean_average_precision(PREDICTIONS, REFERENCES)


# Script of each of two processes of a run that share a folder, as on one machine.
SCORE_A_SHARE = """
import json, sys
import evaluate
path, cache, process_id, videos = sys.argv[1:]
metric = evaluate.load(path, cache_dir=cache, num_process=2, process_id=int(process_id), experiment_id="two")
for prediction, reference in json.loads(videos):
    metric.add(prediction=prediction, reference=reference)
print(json.dumps(metric.compute()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("shares", [([0, 2], [1]), ([0, 1, 2], [1])], ids=["each video once", "one video twice"])
def test_two_operating_system_processes_are_scored_as_one(tmp_path, shares):
    # Process 0 comes first, as in `evaluate`; a sampler that fills the last batch gives one video to both.
    def start(process_id):
        videos = json.dumps([(PREDICTIONS[i], REFERENCES[i]) for i in shares[process_id]])
        words = [sys.executable, "-c", SCORE_A_SHARE, METRIC_PATH, str(tmp_path), str(process_id), videos]
        return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)

    processes = [start(0), start(1)]
    main, other = (json.loads(process.communicate(timeout=200)[0].splitlines()[-1]) for process in processes)
    assert other is None
    order = shares[0] + shares[1]
    assert main == mean_average_precision([PREDICTIONS[i] for i in order], [REFERENCES[i] for i in order])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_that_is_no_finite_number_is_refused_by_its_place(tmp_path, value):
    predictions = [[], [PREDICTIONS[0][0] | {"score": value}], []]
    with pytest.raises(ValueError, match=rf"`predictions\[1\]\[0\]` has score {value}"):
        load(tmp_path).compute(predictions=predictions, references=REFERENCES)


def test_events_found_in_a_video_without_true_events_are_wrong(tmp_path):
    # The video without events has the prediction with the higher score: precision 0, then 1/2.
    predictions = [[PREDICTIONS[0][0]], [PREDICTIONS[0][0] | {"score": 1.0}]]
    result = load(tmp_path).compute(predictions=predictions, references=[REFERENCES[0], []], tiou_thresholds=[0.5])
    assert result["average_map"] == 0.5


def test_no_events_found_scores_zero_and_no_true_events_is_refused(tmp_path):
    metric = load(tmp_path)
    assert metric.compute(predictions=[[], [], []], references=REFERENCES)["average_map"] == 0.0
    with pytest.raises(ValueError, match="no event"):
        metric.compute(predictions=[[], []], references=[[], []])


def test_no_videos_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no event"):
        load(tmp_path).compute(predictions=[], references=[])


def test_the_function_needs_numpy_only():
    heavy = "{'datasets', 'esg_transformers', 'evaluate', 'torch'}"
    command = [sys.executable, "-c", f"import sys, average_precision; print({heavy} & set(sys.modules))"]
    run = subprocess.run(command, cwd=METRIC_PATH, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
