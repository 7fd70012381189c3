import base64
import json
import re
import shutil
from collections import Counter

import av
import pytest
from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

from esg_transformers.annotations.formats import read_annotations
from esg_transformers.annotations.unav import read_unav_annotations
from esg_transformers.cli import localize
from esg_transformers.corpora.dataset import EventCorpus
from esg_transformers.encoders import streaming
from esg_transformers.encoders.spectral import SpectralEncoder
from esg_transformers.localization.pipeline import open_localizer
from esg_transformers.models.esg_net.modeling_esg_net import EsgNetForEventLocalization

LOW = {"--threshold": 0.001}  # the model has hardly been trained


@pytest.fixture
def video(clips):
    return clips / "videos" / "workshop_test_0000.mp4"


@pytest.fixture
def folder(clips, tmp_path):
    """Two clips, `a.mp4` and `b.mp4`, in a folder of their own."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name, clip in (("a", "workshop_test_0000"), ("b", "workshop_test_0001")):
        shutil.copy(clips / "videos" / f"{clip}.mp4", folder / f"{name}.mp4")
    return folder


def test_the_events_of_a_video_are_printed_in_the_order_of_time(run, trained, video):
    code, printed, _ = run("localize", video, "--model", trained, LOW)
    assert code == 0
    first, columns, *rows = printed.splitlines()
    assert first == f"{video.stem}: {len(rows)} events"
    assert columns.split() == ["start", "end", "score", "label"]
    starts = [float(row.split()[0]) for row in rows]
    assert rows
    assert starts == sorted(starts)


def test_a_video_without_events_above_the_threshold_says_so(run, trained, video):
    assert run("localize", video, "--model", trained, "--threshold", 1)[1] == f"{video.stem}: 0 events\n"


def test_the_events_of_videos_are_written_in_the_layout_of_activitynet(run, trained, clips, video, tmp_path):
    videos = [video, clips / "videos" / "workshop_test_0001.mp4"]
    path = tmp_path / "found.json"
    code, printed, _ = run("localize", *videos, "--model", trained, LOW, "--output", path)
    content = json.loads(path.read_text())
    num_events = sum(map(len, content["results"].values()))
    assert (code, printed) == (0, f"Wrote {num_events} events of 2 videos to {path}.\n")
    assert content.keys() == {"version", "results", "external_data"}
    assert list(content["results"]) == ["workshop_test_0000", "workshop_test_0001"]
    for events in content["results"].values():
        assert events
        for event in events:
            assert event.keys() == {"label", "score", "segment"}
            start, end = event["segment"]
            assert 0 <= start < end <= 6.1  # the sound of an AAC file ends a little later
            assert 0.001 < event["score"] < 1
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


def test_a_split_of_a_corpus_gives_the_events_of_its_videos(run, trained, corpus, clips, tmp_path):
    options = {"--model": trained, "--output": tmp_path / "found.json"} | LOW
    assert run("localize", "--corpus", corpus, "--split", "test", options)[0] == 0
    of_corpus = json.loads((tmp_path / "found.json").read_text())["results"]
    assert tuple(of_corpus) == EventCorpus(corpus, "test").video_ids
    [video_id, *_] = of_corpus
    assert run("localize", clips / "videos" / f"{video_id}.mp4", options)[0] == 0
    [of_file] = json.loads((tmp_path / "found.json").read_text())["results"].values()
    # The corpus keeps features in float16, and its durations are the annotated ones.
    best, expected = of_corpus[video_id][0], of_file[0]
    assert best["label"] == expected["label"]
    assert best["score"] == pytest.approx(expected["score"], rel=0.02)
    assert best["segment"] == pytest.approx(expected["segment"], abs=0.1)


def test_every_video_of_a_folder_is_written_in_every_format_asked_for(run, trained, clips, folder, tmp_path):
    out, formats = tmp_path / "new" / "out", "json, csv, vtt, srt, audacity, html, png"
    options = {"--model": trained, "--to": formats, "--output-dir": out, "--lanes": "semantic", "--top-k": 2} | LOW
    code, printed, _ = run("localize", folder, options)
    assert (code, printed) == (0, f"Wrote 4 events of 2 videos to {out}: {formats}.\n")
    suffixes = ("csv", "html", "json", "png", "srt", "txt", "vtt")
    assert sorted(path.name for path in out.iterdir()) == [f"{stem}.{suffix}" for stem in "ab" for suffix in suffixes]
    labels = read_unav_annotations(clips / "annotations.json").label2id
    for name in ("b.json", "b.csv", "b.txt"):
        [video] = read_annotations(out / name, label2id=labels).videos.values()
        assert (video.video_id, len(video.events)) == ("b", 2)
    assert (out / "a.vtt").read_text().startswith("WEBVTT\n\n00:00:0")
    assert (out / "a.srt").read_text().startswith("1\n00:00:0")
    assert (out / "a.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    page = (out / "a.html").read_text()
    assert page.lower().startswith("<!doctype html>")
    assert base64.b64encode((folder / "a.mp4").read_bytes()).decode() in page


def test_a_page_shows_the_lanes_asked_for_and_is_without_a_video_that_is_too_large(
    run, trained, video, tmp_path, monkeypatch, caplog
):
    options = {"--model": trained, "--to": "html", "--output-dir": tmp_path} | LOW
    for lanes in ("semantic", "router", "router,semantic"):
        assert run("localize", video, options, "--lanes", lanes)[0] == 0
        page = (tmp_path / f"{video.stem}.html").read_text()
        assert ('"semantic": null' in page) == ("semantic" not in lanes)
        assert ('"router": null' in page) == ("router" not in lanes)
    monkeypatch.setattr(localize, "MAX_VIDEO_BYTES", 1000)
    assert run("localize", video, options)[0] == 0
    assert f"{video.stem}.html does not contain the video" in caplog.text
    assert '"video": null' in (tmp_path / f"{video.stem}.html").read_text()


def test_a_file_that_fails_is_listed_at_the_end_after_all_others(refused, trained, folder, tmp_path):
    (folder / "aa.mp4").write_bytes(b"this is not a video")
    output = tmp_path / "found.json"
    message = refused("localize", folder, "--model", trained, LOW, "--output", output)
    first, *listed = message.splitlines()
    assert first == "1 of 3 videos could not be localized."
    assert len(listed) == 1
    assert listed[0].startswith(f"- aa.mp4: {folder / 'aa.mp4'} cannot be read as video or sound")
    assert list(json.loads(output.read_text())["results"]) == ["a", "b"]


def test_lines_and_files_are_completed_by_the_same_command(run, trained, folder, tmp_path):
    output, out = tmp_path / "found.jsonl", tmp_path / "out"
    options = {"--model": trained, "--output": output, "--merge-gap": "alarm=0.5,door slamming=1"} | LOW
    assert run("localize", folder / "a.mp4", options)[0] == 0
    code, printed, _ = run("localize", folder, options, "--to", "srt", "--output-dir", out)
    header, *lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert header["run"]["merge_gap"] == {"alarm": 0.5, "door slamming": 1.0}
    assert [line["video"] for line in lines] == ["a.mp4", "b.mp4"]
    num_events = sum(len(line["events"]) for line in lines)
    counted = f"Wrote {num_events} events of 2 videos to"
    assert (code, printed) == (0, f"{counted} {output}.\n{counted} {out}: srt.\n")
    assert sorted(path.name for path in out.iterdir()) == ["a.srt", "b.srt"]
    (out / "a.srt").write_text("kept")
    (out / "b.srt").unlink()
    assert run("localize", folder, options, "--to", "srt", "--output-dir", out)[0] == 0
    assert (out / "a.srt").read_text() == "kept"
    assert (out / "b.srt").exists()


def test_an_interrupted_run_says_how_to_go_on(run, trained, folder, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(localize, "_write_file", interrupt)
    options = {"--model": trained, "--output": tmp_path / "found.jsonl", "--to": "csv", "--output-dir": tmp_path}
    code, printed, complaints = run("localize", folder, options)
    assert (code, printed) == (130, "")
    assert f"{tmp_path / 'found.jsonl'}; run the same command again" in complaints


@pytest.mark.parametrize("option", ["--to=html,doc", "--lanes=semantic,road", "--min-duration=soon"])
def test_a_name_that_is_none_of_the_choices_is_a_mistake_of_use(run, option):
    with pytest.raises(SystemExit, match="2"):
        run("localize", "a.mp4", "--model", "m", option)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Give either video files, or a corpus (--corpus, or --annotations, --features, --feature-set)."),
        (["a.mp4", "--corpus", "c"], "Give either video files, or a corpus"),
        (
            ["--corpus", "c", "--to", "csv", "--top-k", "3"],
            "These options apply to video files, not to a corpus: --top-k, --to.",
        ),
        (
            ["--corpus", "c", "--output", "f.jsonl"],
            "These options apply to video files, not to a corpus: --output FILE.jsonl.",
        ),
        (["a.mp4", "--output", "found.txt"], "--output is found.txt; its suffix must be .json or .jsonl."),
        (["a.mp4", "--lanes", "router", "--to", "png"], "--lanes needs --to html"),
        (["a.mp4", "--output-dir", "d"], "--lanes needs --to html, and --output-dir needs --to."),
        (["nowhere.mp4"], "There is no file nowhere.mp4."),
        (
            ["a.mp4", "--output", "nowhere/found.json"],
            "nowhere/found.json cannot be written: there is no folder nowhere.",
        ),
        (["--features", "f"], "Give either --corpus, or all of --annotations, --features and --feature-set."),
    ],
)
def test_options_that_do_not_go_together_are_refused(refused, trained, words, message):
    assert refused("localize", *words, "--model", trained).startswith(message)


def test_settings_that_do_not_fit_the_model_are_refused_before_the_work(refused, trained, video, tmp_path):
    output = tmp_path / "found.jsonl"
    options = {"--model": trained, "--output": output}
    assert "`merge_gap` names 'siren'" in refused("localize", video, options, "--merge-gap", "siren=1")
    assert "`min_duration` must be seconds >= 0" in refused("localize", video, options, "--min-duration=-1")
    assert not output.exists()


def test_videos_that_cannot_be_told_apart_are_refused(refused, trained, folder, video):
    message = refused("localize", folder, folder / "a.mp4", "--model", trained)
    assert "'a' is given more than once" in message


def test_a_single_file_that_is_no_video_is_named_and_nothing_is_written(refused, trained, tmp_path):
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"this is not a video")
    message = refused("localize", path, "--model", trained, "--output", tmp_path / "found.json")
    assert message.startswith(f"{path} cannot be read as video or sound")
    assert list(tmp_path.iterdir()) == [path]


def test_a_model_on_published_features_takes_them_and_no_video(run, refused, write_features, video, tmp_path):
    source = write_features("one-peace")
    quick = {"--size": "tiny", "--epochs": 1, "--warmup-epochs": 0, "--output": tmp_path}
    assert run("train", source, quick)[0] == 0
    code, printed, _ = run("localize", source, "--model", tmp_path, "--threshold", 0)
    assert code == 0
    assert printed.startswith("d: ")
    message = refused("localize", video, "--model", tmp_path)
    assert message.startswith("The model was trained on features of one-peace unav100; no encoder is given.")
    assert "--annotations, --features, --feature-set" in message
    message = refused("localize", video, "--model", tmp_path, "--encoder", "spectral")
    assert "features of one-peace unav100; --encoder spectral is another one." in message


def test_a_model_on_features_of_transformers_models_takes_videos_with_them(run, refused, clips, video, tmp_path):
    ears, corpus, model, found = (tmp_path / name for name in ("ears", "corpus", "model", "found.jsonl"))
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ASTModel(ASTConfig(**sizes, num_mel_bins=16, max_length=128)).save_pretrained(ears)
    ASTFeatureExtractor(num_mel_bins=16, max_length=128).save_pretrained(ears)
    source = {"--videos": clips / "videos", "--annotations": clips / "annotations.json", "--num-workers": 0}
    assert run("corpus", "build", source, "--encoder", "hub", "--audio-model", ears, "--output", corpus)[0] == 0
    quick = {"--size": "tiny", "--epochs": 1, "--warmup-epochs": 0, "--output": model}
    assert run("train", "--corpus", corpus, quick)[0] == 0

    command = ("localize", video, "--model", model, LOW, "--audio-model", ears, "--output", found, "--device", "cpu")
    assert run(*command, "--num-workers", 1)[0] == 0
    header, result = map(json.loads, found.read_text().splitlines())
    assert header["run"]["encoder"].startswith("hub 1-none+ears@")
    assert result["events"]
    message = refused("localize", video, "--model", model)
    assert message.startswith("The model was trained on features of hub 1-none+ears@")
    assert message.endswith("Give --encoder hub with --visual-model, --audio-model or both.")
    ASTModel(ASTConfig(**sizes, num_mel_bins=16, max_length=128)).save_pretrained(ears)  # other weights
    assert "and the encoder is hub 1-none+ears@" in refused(*command[:5], "--audio-model", ears)


def test_a_file_is_probed_decoded_encoded_and_localized_once_for_all_formats(
    run, trained, video, tmp_path, monkeypatch
):
    model = shutil.copytree(trained, tmp_path / "model")
    config = json.loads((model / "processor_config.json").read_text())
    (model / "processor_config.json").write_text(json.dumps(config | {"window_steps": 16}))
    num_windows = len(list(open_localizer(model).preprocess(video)))
    assert num_windows > 1
    calls = Counter()

    def count(owner, name, key):
        original = getattr(owner, name)

        def counted(*args, **kwargs):
            calls[key] += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)

    count(av, "open", "openings")
    count(streaming, "read_frames", "decodings of pictures")
    count(streaming, "read_sound", "decodings of sound")
    count(SpectralEncoder, "blocks", "encodings")
    count(EsgNetForEventLocalization, "forward", "forward passes")
    count(EsgNetForEventLocalization, "from_pretrained", "loads of the model")
    options = {"--model": model, "--to": "html,json", "--lanes": "semantic,router", "--output-dir": tmp_path} | LOW
    assert run("localize", video, options)[0] == 0
    assert calls == {
        "openings": 3,  # to probe, to decode the pictures, to decode the sound
        "decodings of pictures": 1,
        "decodings of sound": 1,
        "encodings": 1,
        "forward passes": num_windows,
        "loads of the model": 1,
    }
    page = (tmp_path / f"{video.stem}.html").read_text()
    for lane in ("waveform", "semantic", "router"):
        assert f'"{lane}": {{' in page


def test_pages_by_worker_processes_are_those_of_this_one_and_are_made_again_for_an_earlier_run(
    run, trained, video, tmp_path
):
    options = {"--model": trained, "--to": "html", "--lanes": "semantic", "--output": tmp_path / "found.jsonl"} | LOW
    page, again, expected = (tmp_path / name / f"{video.stem}.html" for name in ("workers", "again", "here"))
    assert run("localize", video, options, "--output-dir", page.parent, "--num-workers", 1)[0] == 0
    assert run("localize", video, options, "--output-dir", again.parent)[0] == 0
    (tmp_path / "found.jsonl").unlink()
    assert run("localize", video, options, "--output-dir", expected.parent)[0] == 0
    for path in (page, again):
        for name in ("waveform", "semantic"):
            assert _part(path, name).keys() == _part(expected, name).keys()
        assert _part(path, "waveform") == _part(expected, "waveform")


def _part(page, name):
    [data] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text())
    return json.loads(data)[name]
