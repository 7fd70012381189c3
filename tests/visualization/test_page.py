import base64
import json
from html.parser import HTMLParser

import av
import numpy as np
import pytest

from esg_transformers.localization.trace import Trace
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid
from esg_transformers.visualization import page
from esg_transformers.visualization.page import save_timeline_html

FOUND = [
    {"start": 1.0, "end": 4.0, "label": "dog", "score": 0.9},
    {"start": 3.0, "end": 6.0, "label": "dog", "score": 0.2},
    {"start": 7.0, "end": 9.0, "label": "cat", "score": 0.5},
]
TRUE = [{"start": 0.5, "end": 4.0, "label": "dog"}]
HOSTILE = """</script><script>document.title = "taken"</script>"'><img src=x onerror=alert(1)> & {{timeline}} $x_{"""


def write_video(path, seconds=2):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(10 * seconds):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


class Page(HTMLParser):
    """Parsed page: the tags with their attributes, the headings, and the text of each script."""

    def __init__(self, path):
        super().__init__()
        self.text = path.read_text(encoding="utf-8")
        self.tags, self.scripts, self.headings, self.inside = [], [], [], None
        self.feed(self.text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts.append(data)
        if self.inside in ("title", "h1"):
            self.headings.append(data)

    @property
    def timeline(self):
        return json.loads(self.scripts[0])


def test_the_page_holds_every_event_and_asks_nothing_from_outside(tmp_path):
    path = tmp_path / "events.html"
    video = write_video(tmp_path / "site.mp4")
    save_timeline_html(path, FOUND, TRUE, duration=10.0, video=video, title="Site")
    page = Page(path)
    assert page.headings == ["Site", "Site"]
    assert page.timeline["duration"] == 10.0
    assert [lane["label"] for lane in page.timeline["lanes"]] == ["dog", "cat"]
    dog = page.timeline["lanes"][0]
    assert [(bar["start"], bar["end"], bar["score"]) for bar in dog["found"]] == [(1.0, 4.0, 0.9), (3.0, 6.0, 0.2)]
    assert [(bar["start"], bar["end"], bar["score"]) for bar in dog["true"]] == [(0.5, 4.0, None)]
    assert page.timeline["video"]["type"] == "video/mp4"
    assert base64.b64decode(page.timeline["video"]["base64"]) == video.read_bytes()
    assert not any({"src", "href", "srcset", "data"} & attributes.keys() for _, attributes in page.tags)
    page_without_video = page.text.replace(page.timeline["video"]["base64"], "")
    for address in ("http:", "https:", "//cdn", "url(", "@import"):
        assert address not in page_without_video
    policy = next(tag["content"] for _, tag in page.tags if tag.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy


def test_hostile_names_stay_text(tmp_path):
    plain, hostile = tmp_path / "plain.html", tmp_path / "hostile.html"
    events = [{"start": 0.0, "end": 1.0, "label": "dog", "score": 0.5}]
    save_timeline_html(plain, events, title="dog")
    save_timeline_html(hostile, [events[0] | {"label": HOSTILE}], title=HOSTILE)
    assert [tag for tag, _ in Page(hostile).tags] == [tag for tag, _ in Page(plain).tags]
    assert Page(hostile).timeline["lanes"][0]["label"] == HOSTILE
    assert "".join(Page(hostile).headings) == HOSTILE * 2


def test_numpy_numbers_and_no_events_can_be_written(tmp_path):
    save_timeline_html(tmp_path / "one.html", [{"start": np.float32(1), "end": np.int64(2), "label": "dog"}])
    assert Page(tmp_path / "one.html").timeline["lanes"][0]["found"][0]["end"] == 2.0
    save_timeline_html(tmp_path / "none.html", [])
    assert Page(tmp_path / "none.html").timeline["lanes"] == []


def test_a_video_that_cannot_be_embedded_is_refused_and_the_old_page_stays(tmp_path, monkeypatch):
    path = tmp_path / "events.html"
    path.write_text("old")
    with pytest.raises(FileNotFoundError, match="not a file"):
        save_timeline_html(path, FOUND, video=tmp_path / "missing.mp4")
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(ValueError, match=r"notes\.txt, .*text/plain"):
        save_timeline_html(path, FOUND, video=tmp_path / "notes.txt")
    monkeypatch.setattr(page, "MAX_VIDEO_BYTES", 2**20)
    (tmp_path / "long.mp4").write_bytes(bytes(2 * 2**20))
    with pytest.raises(ValueError, match="2 MiB; a page holds at most 1 MiB"):
        save_timeline_html(path, FOUND, video=tmp_path / "long.mp4")
    with pytest.raises(FileNotFoundError, match="no folder"):
        save_timeline_html(tmp_path / "no folder" / "events.html", FOUND)
    assert path.read_text() == "old"
    assert {file.name for file in tmp_path.iterdir()} == {"events.html", "notes.txt", "long.mp4"}


def test_a_page_is_replaced_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "events.html"
    path.write_text("old")
    save_timeline_html(path, FOUND)
    assert Page(path).timeline["lanes"]
    assert list(tmp_path.iterdir()) == [path]


def test_the_bytes_of_a_trace_are_the_probabilities_of_each_lane(tmp_path):
    path = tmp_path / "events.html"
    semantic = np.zeros((2, 3, 4, 2), np.float16)  # stages, streams, steps, classes
    semantic[0, 2, 1, 1] = 1.0  # the first stage of the fused stream is sure of a dog at step 1
    semantic[1, 0, 3, 1] = 0.2
    router = np.full((1, 4, 2), 0.5, np.float16)
    grid = FeatureGrid(frame_rate=25.0, stride=8, window=24)
    trace = Trace(grid, labels=("bird", "dog"), semantic=semantic, router=router)
    save_timeline_html(path, FOUND, trace=trace)
    shown = Page(path).timeline["semantic"]
    # Step 0 is centred at 0.48 s and steps lie 0.32 s apart: the strip goes from 0.32 s to 0.48 + 3.5 x 0.32 = 1.6 s.
    assert (shown["start"], shown["end"]) == pytest.approx((0.32, 1.6))
    assert (shown["columns"], shown["stages"], shown["streams"]) == (4, 2, ["visual", "audio", "fused"])
    dog, cat = shown["strips"]
    assert cat is None  # not a class of the network
    strips = np.frombuffer(base64.b64decode(dog), np.uint8).reshape(3, 2, 4)  # streams, stages, columns
    assert {tuple(where): strips[tuple(where)] for where in np.argwhere(strips)} == {(2, 0, 1): 255, (0, 1, 3): 51}
    shares = Page(path).timeline["router"]
    assert (shares["layers"], shares["experts"]) == (1, 2)
    assert base64.b64decode(shares["strips"]) == bytes([128] * 8)


def test_the_trace_of_a_long_video_is_averaged_over_neighbouring_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "MAX_COLUMNS", 3)
    shares = np.array([0, 1, 0.2, 0.6, 0, 0, 0.6])  # 7 steps in 3 columns: 2, 2 and 3
    trace = Trace(FeatureGrid(1.0, 1, 1), (), None, np.stack([shares, 1 - shares], axis=-1)[None])
    save_timeline_html(tmp_path / "events.html", FOUND, trace=trace)
    shown = Page(tmp_path / "events.html").timeline["router"]
    assert list(base64.b64decode(shown["strips"])[:3]) == [128, 102, 51]  # 255 x 0.5, 0.4 and 0.2
    assert (shown["start"], shown["end"], shown["columns"]) == (0.0, 7.0, 3)


def test_a_waveform_or_trace_that_does_not_fit_is_refused(tmp_path):
    grid = FeatureGrid(1.0, 1, 1)
    semantic, router = np.zeros((2, 3, 5, 2)), np.full((1, 5, 4), 0.25)
    for reason, options in [
        ("`waveform` .* `duration`", {"waveform": np.zeros((4, 2))}),
        (r"`waveform` has shape \(4,\)", {"waveform": np.zeros(4), "duration": 9.0}),
        ("`waveform` has shape", {"waveform": np.full((4, 2), np.nan), "duration": 9.0}),
        (r"`trace.semantic` has shape \(2, 3, 5, 2\)", {"trace": Trace(grid, ("dog",), semantic, None)}),
        ("`trace.semantic` has", {"trace": Trace(grid, ("dog", "cat"), semantic - 1, None)}),
        ("`trace.router` has", {"trace": Trace(grid, (), None, router * np.nan)}),
        (r"`trace.router` has shape \(5, 4\)", {"trace": Trace(grid, (), None, router[0])}),
    ]:
        with pytest.raises(ValueError, match=reason):
            save_timeline_html(tmp_path / "never.html", FOUND, **options)
    assert not list(tmp_path.iterdir())
