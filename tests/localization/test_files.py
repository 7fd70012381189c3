import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
import wave

import numpy as np
import pytest
from filelock import FileLock
from transformers import pipeline

from esg_transformers.corpora.example import ExampleList
from esg_transformers.encoders.spectral import SpectralEncoder
from esg_transformers.localization.files import files_to_localize, localize_files
from esg_transformers.localization.pipeline import TASK, open_localizer
from esg_transformers.simulation.clips import make_workshop_clips
from esg_transformers.training.model import new_model

pytestmark = pytest.mark.slow

ENCODER = SpectralEncoder()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny model with random weights for the features of the default encoder."""
    folder = tmp_path_factory.mktemp("model")
    source = ExampleList([], ("alarm", "speech"), ENCODER.feature_spec)
    for part in new_model(source, "tiny", seed=0, prior_probability=0.35):
        part.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A video of 4 s with picture and sound."""
    folder = tmp_path_factory.mktemp("clip")
    make_workshop_clips(folder, {"test": 1}, duration=4.0, num_workers=1)
    return folder / "videos" / "workshop_test_0000.mp4"


@pytest.fixture
def folder(tmp_path, clip):
    """A clip, two sound files of 2 s, and between them a file that is none."""
    folder = tmp_path / "videos"
    folder.mkdir()
    shutil.copy(clip, folder / "a.mp4")
    (folder / "b.mp4").write_bytes(b"this is not a video")
    write_noise(folder / "c.wav", 2.0)
    write_noise(folder / "d.wav", 2.0)
    return folder


def write_noise(path, seconds):
    noise = np.random.default_rng(len(path.name)).integers(-9000, 9000, round(16_000 * seconds), np.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(16_000)
        file.writeframes(noise.tobytes())


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def by_video(results):
    return {result["video"]: result for result in results}


def test_every_file_has_a_line_and_one_that_is_broken_says_why(model, folder, tmp_path):
    output = tmp_path / "found.jsonl"
    results = localize_files(model, [folder], output, threshold=0.0, top_k=3)
    run, *lines = lines_of(output)
    assert lines == results
    assert [result["video"] for result in results] == ["a.mp4", "b.mp4", "c.wav", "d.wav"]
    assert run["run"].keys() == {"version", "model", "encoder", "threshold", "top_k"}
    clip, broken, sound, _ = results
    assert clip.keys() == {"video", "duration", "streams", "events"}
    assert clip["streams"] == ["visual", "audio"]
    assert clip["duration"] == pytest.approx(4.0, abs=0.1)
    assert len(clip["events"]) == 3
    assert clip["events"][0].keys() == {"start", "end", "label", "score"}
    assert (sound["streams"], sound["duration"]) == (["audio"], 2.0)
    assert broken.keys() == {"video", "error"}
    assert broken["error"].startswith(f"{folder / 'b.mp4'} cannot be read as video or sound")
    assert "\n" not in broken["error"]


def test_without_an_output_results_are_returned_and_nothing_is_written(model, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(localize_files(model, [folder / "d.wav", folder / "c.wav"])) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["videos"]


def test_an_open_pipeline_gives_the_results_of_its_folder_with_its_own_settings(model, folder, tmp_path):
    localizer = open_localizer(model)
    assert localize_files(localizer, [folder], threshold=0.0) == localize_files(model, [folder], threshold=0.0)
    own = pipeline(TASK, model=str(model), threshold=0.0, top_k=3)
    output = tmp_path / "found.jsonl"
    expected = localize_files(model, [folder], output, threshold=0.0, top_k=1)
    assert localize_files(own, [folder], output, top_k=1) == expected  # the lines are of a run with the same settings
    with pytest.raises(ValueError, match="`encoder` to the pipeline"):
        localize_files(localizer, [folder], encoder=ENCODER)


@pytest.mark.parametrize("num_workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_details_come_with_the_results_and_are_not_kept(model, folder, tmp_path, num_workers):
    output, seen = tmp_path / "found.jsonl", []
    settings = {"num_workers": num_workers, "details": ["trace", "waveform"], "threshold": 0.0, "top_k": 3}
    results = localize_files(model, [folder / "a.mp4", folder / "c.wav"], output, on_result=seen.append, **settings)
    for result, given in zip(results, seen, strict=True):
        assert result == {name: value for name, value in given.items() if name not in ("trace", "waveform")}
        assert given["trace"].semantic.shape[1:] == (3, given["trace"].router.shape[1], 2)
        assert given["waveform"].shape == (2000, 2)
    assert lines_of(output)[1:] == results
    with pytest.raises(ValueError, match="`details` names 'colour'"):
        localize_files(model, [folder], details=["colour"])


def test_a_run_goes_on_with_what_is_missing_and_with_what_failed(model, folder, clip, tmp_path):
    output, seen = tmp_path / "found.jsonl", []
    localize_files(model, [folder / "a.mp4", folder / "b.mp4"], output)
    whole = output.read_bytes()
    output.write_bytes(whole + b'{"video": "c.wav", "duration": 2.0, "ev')  # as by `kill -9` while it was written
    shutil.copy(clip, folder / "b.mp4")
    results = localize_files(model, [folder], output, on_result=lambda result: seen.append(result["video"]))
    assert seen == ["b.mp4", "c.wav", "d.wav"]
    assert not any("error" in result for result in results)
    assert [line["video"] for line in lines_of(output)[1:]] == ["a.mp4", *seen]
    assert by_video(lines_of(output)[1:]) == by_video(results)
    assert output.read_bytes().startswith(b"".join(whole.splitlines(keepends=True)[:2]))
    localize_files(model, [folder], output, on_result=lambda result: pytest.fail("a file was localized again"))


def test_failures_of_files_that_are_not_asked_for_stay(model, folder, tmp_path):
    output = tmp_path / "found.jsonl"
    localize_files(model, [folder / "b.mp4"], output)
    localize_files(model, [folder / "c.wav"], output)
    assert [line["video"] for line in lines_of(output)[1:]] == ["b.mp4", "c.wav"]


def test_a_run_with_other_settings_or_another_model_is_refused_and_says_what_differs(model, folder, tmp_path):
    output = tmp_path / "found.jsonl"
    localize_files(model, [folder / "c.wav"], output, threshold=0.5, merge_gap={"alarm": 1.0})
    before = output.read_bytes()
    with pytest.raises(
        ValueError, match=r"merge_gap is not given and was {'alarm': 1.0}; threshold is 0.4 and was 0.5"
    ):
        localize_files(model, [folder], output, threshold=0.4)
    calibrated = shutil.copytree(model, tmp_path / "calibrated")
    config = json.loads((calibrated / "processor_config.json").read_text())
    (calibrated / "processor_config.json").write_text(json.dumps(config | {"thresholds": {"alarm": 0.9}}))
    with pytest.raises(ValueError, match=r"model is \w{64} and was \w{64}"):
        localize_files(calibrated, [folder], output, threshold=0.5, merge_gap={"alarm": 1.0})
    assert output.read_bytes() == before
    localize_files(model, [folder / "c.wav"], output, threshold=0.5, merge_gap={"alarm": 1.0}, top_k=None)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"my notes", 1),
        (b'{"video": "c.wav", "events": []}\n', 1),
        (b'{"run": {}}\n[]\n', 2),
        (b'{"run": {}}\n{"video": "c.wav", "events": []}\n\xff\n', 3),
    ],
)
def test_a_file_of_something_else_is_refused_and_left_alone(model, folder, tmp_path, content, line):
    output = tmp_path / "found.jsonl"
    output.write_bytes(content)
    with pytest.raises(ValueError, match=f"found.jsonl is not a result file .*: line {line} "):
        localize_files(model, [folder], output)
    assert output.read_bytes() == content


def test_a_file_that_another_process_is_writing_is_refused(model, folder, tmp_path):
    with (
        FileLock(tmp_path / ".found.jsonl.lock"),
        pytest.raises(OSError, match=r"Another process is writing .*found\.jsonl"),
    ):
        localize_files(model, [folder], tmp_path / "found.jsonl")


def test_a_result_is_written_only_when_the_caller_is_done_with_it(model, folder, tmp_path):
    def interrupt(result):
        if result["video"] == "b.mp4":
            raise KeyboardInterrupt

    output = tmp_path / "found.jsonl"
    with pytest.raises(KeyboardInterrupt):
        localize_files(model, [folder], output, on_result=interrupt)
    assert [line["video"] for line in lines_of(output)[1:]] == ["a.mp4"]


def test_processes_give_the_results_of_this_one(model, folder, tmp_path):
    output = tmp_path / "found.jsonl"
    results = localize_files(model, [folder], output, num_workers=2, threshold=0.0, top_k=3)
    expected = localize_files(model, [folder], threshold=0.0, top_k=3)
    assert [result["video"] for result in results] == ["a.mp4", "b.mp4", "c.wav", "d.wav"]
    assert by_video(lines_of(output)[1:]) == by_video(results)
    for result, other in zip(results, expected, strict=True):
        found, events = result.pop("events", []), other.pop("events", [])
        assert result == other
        assert [event.pop("label") for event in found] == [event.pop("label") for event in events]
        for event, other_event in zip(found, events, strict=True):
            assert event == pytest.approx(other_event, abs=1e-4)
    assert not multiprocessing.active_children()


def test_a_process_that_is_killed_fails_its_file_and_the_others_are_localized(model, tmp_path):
    for name, seconds in (("a", 1.0), ("b", 300.0), ("c", 1.0)):  # it is at "b" when the result of "a" is told
        write_noise(tmp_path / f"{name}.wav", seconds)

    def kill_the_process(result):
        if result["video"] == "a.wav":
            [process] = multiprocessing.active_children()
            os.kill(process.pid, signal.SIGKILL)

    results = localize_files(model, [tmp_path], num_workers=1, on_result=kill_the_process)
    assert ["error" in result for result in results] == [False, True, False]
    assert "exit code -9" in results[1]["error"]


SCRIPT = """
import sys
from esg_transformers.localization.files import localize_files
if __name__ == "__main__":
    localize_files(sys.argv[1], [sys.argv[2]], sys.argv[3], num_workers=int(sys.argv[4]))
"""


def test_a_run_that_is_killed_goes_on_and_has_each_file_once(model, tmp_path):
    folder, output, script = tmp_path / "sounds", tmp_path / "found.jsonl", tmp_path / "script.py"
    folder.mkdir()
    script.write_text(SCRIPT)
    for index in range(12):
        write_noise(folder / f"{index:02}.wav", 30.0)
    words = [str(word) for word in (sys.executable, script, model, folder, output, 1)]
    killed = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    while not output.exists() or output.read_bytes().count(b"\n") < 3:
        assert killed.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    killed.kill()  # the parent alone: its process ends by itself
    assert killed.wait() == -signal.SIGKILL
    before = lines_of(output)[1:]
    assert 2 <= len(before) < 12
    results = localize_files(model, [folder], output)
    after = lines_of(output)[1:]
    assert after[: len(before)] == before
    assert sorted(line["video"] for line in after) == [f"{index:02}.wav" for index in range(12)]
    assert by_video(results) == by_video(after)


def test_what_is_wrong_with_the_whole_run_is_told_before_it(model, folder, tmp_path):
    for words, settings, error, message in (
        ([model, [folder, "nowhere.mp4"]], {}, FileNotFoundError, "There is no file nowhere.mp4"),
        (["OWNER/NAME", [folder]], {}, FileNotFoundError, "no model folder OWNER/NAME.*snapshot_download"),
        ([model, [folder], tmp_path / "no" / "f.jsonl"], {}, FileNotFoundError, "there is no folder .*no. Make it"),
        ([model, [folder]], {"num_workers": -1}, ValueError, "`num_workers` must be at least 0; got -1"),
        ([model, [folder]], {"top_k": 0}, ValueError, "`top_k` must be at least 1; got 0"),
        ([model, [folder]], {"treshold": 0.1}, TypeError, "Unknown arguments: treshold"),
    ):
        with pytest.raises(error, match=message):
            localize_files(*words, **settings)


def test_folders_stand_for_the_files_in_them_and_not_for_those_further_down(tmp_path):
    for name in ("yard/b.MP4", "yard/a.wav", "yard/a.mp4", "yard/notes.txt", "yard/night/c.mp4", "d.dat", "none/x.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = files_to_localize([tmp_path / "d.dat", str(tmp_path / "yard")])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["d.dat", "yard/a.mp4", "yard/b.MP4"]
    with pytest.raises(ValueError, match=r"'a' is given more than once: .*yard/a\.mp4 and .*yard/a\.wav"):
        files_to_localize([tmp_path / "yard", tmp_path / "yard" / "a.wav"])
    with pytest.raises(ValueError, match=r"none has no video or sound file in it \(\.mp4, "):
        files_to_localize([tmp_path / "none"])
