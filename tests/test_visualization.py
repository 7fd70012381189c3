import base64
import json
import math
import shutil
import subprocess
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import unquote

import av
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.patches import Rectangle

from esg_transformers import visualization
from esg_transformers.visualization import plot_events, save_timeline_html

FOUND = [
    {"start": 1.0, "end": 4.0, "label": "dog", "score": 0.9},
    {"start": 3.0, "end": 6.0, "label": "dog", "score": 0.2},
    {"start": 7.0, "end": 9.0, "label": "cat", "score": 0.5},
]
TRUE = [{"start": 0.5, "end": 4.0, "label": "dog"}]
HOSTILE = """</script><script>document.title = "taken"</script>"'><img src=x onerror=alert(1)> & {{timeline}} $x_{"""


@pytest.fixture(autouse=True)
def draw_without_a_screen():
    matplotlib.use("Agg")
    yield
    plt.close("all")


def bars(ax):
    return [patch for patch in ax.patches if isinstance(patch, Rectangle)]


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
    """What a browser would see: the tags with their attributes, and the text of each script."""

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


# plot_events


def test_bars_stand_at_the_seconds_of_their_events():
    ax = plot_events(FOUND, TRUE, duration=10.0)
    spans = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in bars(ax))
    assert spans == [(0.5, 4.0), (1.0, 4.0), (3.0, 6.0), (7.0, 9.0)]
    assert ax.get_xlim() == (0.0, 10.0)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["dog", "cat"]


def test_overlapping_events_of_a_class_are_not_drawn_over_each_other():
    ax = plot_events(FOUND, TRUE)
    boxes = [bar.get_bbox() for bar in bars(ax)]
    for i, one in enumerate(boxes):
        for other in boxes[:i]:
            apart = one.x1 <= other.x0 or other.x1 <= one.x0 or one.y1 <= other.y0 or other.y1 <= one.y0
            assert apart, (one, other)


def test_a_higher_score_is_drawn_stronger_and_written_where_it_fits():
    short = {"start": 9.0, "end": 9.01, "label": "dog", "score": 0.7}
    ax = plot_events([*FOUND, short])
    strong, weak = sorted((bar for bar in bars(ax) if bar.get_width() == 3.0), key=lambda bar: bar.get_x())
    assert strong.get_alpha() > weak.get_alpha()
    assert sorted(text.get_text() for text in ax.texts) == ["0.20", "0.50", "0.90"]


def test_true_events_are_outlines():
    outlines = [bar for bar in bars(plot_events(FOUND, TRUE)) if bar.get_hatch()]
    assert len(outlines) == 1
    assert outlines[0].get_facecolor()[3] == 0.0  # no fill


def test_the_axis_reaches_to_the_last_event():
    assert plot_events(FOUND, duration=5.0).get_xlim() == (0.0, 9.0)
    assert plot_events(FOUND).get_xlim() == (0.0, 9.0)


def test_given_labels_are_the_lanes_in_their_order():
    ax = plot_events(FOUND, labels=["bird", "cat", "dog"])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["bird", "cat", "dog"]


@pytest.mark.parametrize("num_classes", [0, 1, 12, 30])
def test_any_number_of_classes_can_be_drawn_and_saved(num_classes, tmp_path):
    events = [{"start": i, "end": i + 2.0, "label": f"class {i}", "score": 0.5} for i in range(num_classes)]
    ax = plot_events(events, events, title="lanes")
    ax.figure.savefig(tmp_path / "events.png")
    assert len(bars(ax)) == 2 * num_classes


def test_events_can_be_drawn_on_given_axes():
    _, axes = plt.subplots(2)
    assert plot_events(FOUND, ax=axes[1]) is axes[1]
    assert len(bars(axes[1])) == 3 and not bars(axes[0])


def test_events_can_be_drawn_in_a_part_of_a_figure():
    part, _ = plt.figure().subfigures(2)
    assert len(bars(plot_events(FOUND, ax=part.subplots()))) == 3


def test_names_with_formula_characters_are_drawn_as_text(tmp_path):
    ax = plot_events([{"start": 0.0, "end": 1.0, "label": HOSTILE}], title="$\\frac{")
    ax.figure.savefig(tmp_path / "events.png")  # a formula that does not parse raises here


@pytest.mark.parametrize(
    "draw", [plot_events, lambda *args, **kwargs: save_timeline_html("never.html", *args, **kwargs)]
)
def test_bad_events_are_refused_with_their_reason(draw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    event = {"start": 0.0, "end": 1.0, "label": "dog", "score": 0.5}
    for change, reason in [
        ({"start": 2.0}, r"`events\[1\]` goes from 2.0 to 1.0"),
        ({"start": math.nan}, "goes from nan to 1.0"),
        ({"end": math.inf}, "goes from 0.0 to inf"),
        ({"start": -1.0}, "goes from -1.0 to 1.0"),
        ({"end": "1"}, "goes from 0.0 to '1'"),
        ({"label": 3}, "has label 3"),
        ({"score": 1.5}, "has score 1.5"),
        ({"score": math.nan}, "has score nan"),
    ]:
        with pytest.raises(ValueError, match=reason):
            draw([event, event | change])
    with pytest.raises(ValueError, match=r"`true_events\[0\]` is {'start': 0.0}"):
        draw([event], [{"start": 0.0}])
    with pytest.raises(ValueError, match="no lane to 'dog'"):
        draw([event], labels=["cat"])
    with pytest.raises(ValueError, match="`duration` must be"):
        draw([event], duration=0.0)
    assert not list(tmp_path.iterdir())


# save_timeline_html


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
    with pytest.raises(ValueError, match=r"notes\.txt, not known as video"):
        save_timeline_html(path, FOUND, video=tmp_path / "notes.txt")
    monkeypatch.setattr(visualization, "MAX_VIDEO_BYTES", 2**20)
    (tmp_path / "long.mp4").write_bytes(bytes(2 * 2**20))
    with pytest.raises(ValueError, match="2 MiB; a page holds at most 1 MiB"):
        save_timeline_html(path, FOUND, video=tmp_path / "long.mp4")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        save_timeline_html(tmp_path / "no folder" / "events.html", FOUND)
    assert path.read_text() == "old"
    assert {file.name for file in tmp_path.iterdir()} == {"events.html", "notes.txt", "long.mp4"}


def test_a_page_is_replaced_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "events.html"
    path.write_text("old")
    save_timeline_html(path, FOUND)
    assert Page(path).timeline["lanes"]
    assert list(tmp_path.iterdir()) == [path]


USE_THE_PAGE = """
<script>
video.addEventListener("loadedmetadata", async () => {
  const until = async (ready) => { while (!ready()) await new Promise((wake) => setTimeout(wake, 20)); };
  const press = (key) => document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  const seen = { title: document.title, label: document.querySelector(".label").textContent };
  seen.events = [...document.querySelectorAll(".event")].map((node) => node.getAttribute("aria-label"));
  document.querySelector(".event.found").click();
  await until(() => video.currentTime === 0.5 && !video.seeking);
  seen.afterClick = byId("clock").textContent;
  press("ArrowRight");
  await until(() => video.currentTime === 1.5 && !video.seeking);
  seen.afterArrow = byId("clock").textContent;
  press("ArrowLeft");
  await until(() => video.currentTime === 0.5 && !video.seeking);
  press(" ");
  await until(() => !video.paused && now > 0.6);
  seen.playhead = Number(byId("playhead").style.getPropertyValue("--time"));
  press(" ");
  await until(() => video.paused);
  threshold.value = 0.6;
  threshold.dispatchEvent(new Event("input"));
  seen.count = byId("count").textContent;
  seen.shown = document.querySelectorAll(".event.found:not([hidden])").length;
  document.querySelector(".event.found").dispatchEvent(new Event("pointerenter"));
  seen.tooltip = tooltip.innerText;
  location = "http://127.0.0.1:PORT/" + encodeURIComponent(JSON.stringify(seen));  // fetch is forbidden to the page
});
</script>
"""


def test_the_page_plays_seeks_and_filters_in_a_browser(tmp_path):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine (`apt-get install chromium`)")
    events = [
        {"start": 0.5, "end": 1.5, "label": HOSTILE, "score": 0.75},
        {"start": 0.25, "end": 1.0, "label": "cat", "score": 0.5},
    ]
    path = tmp_path / "events.html"
    video = write_video(tmp_path / "site.mp4", seconds=4)
    save_timeline_html(path, events, labels=[HOSTILE, "cat"], video=video, title=HOSTILE)
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += " --disable-component-update --disable-sync --autoplay-policy=no-user-gesture-required"
    command = [chromium, *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", path.as_uri()]
    received = []

    class Receiver(BaseHTTPRequestHandler):
        def do_GET(self):
            received.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        server.timeout = 60
        script = USE_THE_PAGE.replace("PORT", str(server.server_port))
        path.write_text(path.read_text(encoding="utf-8").replace("</body>", f"{script}</body>"), encoding="utf-8")
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        server.handle_request()
        browser.terminate()
        browser.wait(timeout=30)
    seen = json.loads(unquote(received[0].removeprefix("/")))
    assert seen["title"] == seen["label"] == HOSTILE
    assert seen["events"] == [f"{HOSTILE}, 0.50 – 1.50 s, found, score 0.750", "cat, 0.25 – 1.00 s, found, score 0.500"]
    assert (seen["afterClick"], seen["afterArrow"]) == ("0:00.5 / 0:04.0", "0:01.5 / 0:04.0")
    assert 0.6 < seen["playhead"] <= 4.0
    assert (seen["count"], seen["shown"]) == ("1 of 2 found events", 1)
    assert seen["tooltip"] == f"{HOSTILE}\n0.50 – 1.50 s\nfound, score 0.750"
