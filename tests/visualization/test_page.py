import base64
import json
import math
import os
import shutil
import subprocess
import wave
from html.parser import HTMLParser
from io import BytesIO

import av
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.patches import Rectangle
from PIL import Image

from esg_transformers.localization.trace import Trace
from esg_transformers.media.audio import waveform_peaks
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid
from esg_transformers.visualization import page
from esg_transformers.visualization.page import save_timeline_html
from esg_transformers.visualization.timeline import PALETTE, plot_events

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
        ({"start": 2.0}, r"`events\[1\]` .* 2.0 .* 1.0"),
        ({"start": math.nan}, r"starts at nan and ends at 1\.0"),
        ({"end": math.inf}, r"ends at inf"),
        ({"start": -1.0}, r"starts at -1\.0"),
        ({"end": "1"}, "ends at '1'"),
        ({"label": 3}, "has label 3"),
        ({"score": 1.5}, "has score 1.5"),
        ({"score": math.nan}, "has score nan"),
    ]:
        with pytest.raises(ValueError, match=reason):
            draw([event, event | change])
    with pytest.raises(ValueError, match=r"`true_events\[0\]` is {'start': 0.0}"):
        draw([event], [{"start": 0.0}])
    with pytest.raises(ValueError, match="`labels` .*'dog'"):
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


# waveform_peaks


def write_wav(path, samples, sampling_rate=8000):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sampling_rate)
        file.writeframes((np.asarray(samples) * 2**15).astype("<i2").tobytes())
    return path


def test_peaks_are_the_least_and_the_greatest_sample_of_each_part(tmp_path):
    loud = np.tile([0.5, -0.25], 8000)  # 2 s
    path = write_wav(tmp_path / "tone.wav", np.concatenate([np.zeros(16000), loud]))
    peaks = waveform_peaks(path, num_peaks=8)  # of half a second each
    assert peaks.dtype == np.float32
    np.testing.assert_allclose(peaks, [[0.0, 0.0]] * 4 + [[-0.25, 0.5]] * 4)
    np.testing.assert_array_equal(waveform_peaks(path.read_bytes(), num_peaks=8), peaks)


def test_a_sound_shorter_than_the_peaks_asked_for_leaves_no_holes(tmp_path):
    path = write_wav(tmp_path / "click.wav", np.full(80, 0.5))  # 10 ms
    assert waveform_peaks(path, num_peaks=400).min() > 0.4


def test_peaks_cover_the_file_also_where_its_sound_has_ended(tmp_path):
    path = tmp_path / "site.mkv"
    with av.open(str(path), "w") as container:
        pictures, sound = container.add_stream("libx264", rate=10), container.add_stream("pcm_s16le", rate=8000)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        sound.layout = "mono"
        samples = av.AudioFrame.from_ndarray(np.full((1, 8000), 2**14, np.int16), format="s16", layout="mono")  # 1 s
        samples.sample_rate = 8000
        container.mux([*sound.encode(samples), *sound.encode()])
        for _ in range(20):  # 2 s
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode())
    np.testing.assert_allclose(waveform_peaks(path, num_peaks=4), [[0.5, 0.5], [0.5, 0.5], [0.0, 0.0], [0.0, 0.0]])


def test_a_video_without_sound_has_no_peaks(tmp_path):
    with pytest.raises(ValueError, match="no audio stream"):
        waveform_peaks(write_video(tmp_path / "site.mp4"))
    with pytest.raises(ValueError, match="`num_peaks` is 0"):
        waveform_peaks(tmp_path / "site.mp4", num_peaks=0)


# The page in a browser


class Browser:
    """A page in headless Chromium, driven over the DevTools protocol: JSON, each message ended by a 0 byte."""

    def __init__(self, chromium, folder):
        os.mkfifo(folder / "commands")
        os.mkfifo(folder / "messages")
        flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
        flags += " --disable-component-update --disable-sync --remote-debugging-pipe --user-data-dir=profile"
        self.process = subprocess.Popen(
            ["sh", "-c", 'exec "$0" "$@" 3<commands 4>messages', chromium, *flags.split(), "about:blank"],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.commands = (folder / "commands").open("wb", buffering=0)
        self.messages = (folder / "messages").open("rb")
        self.events, self.count, self.session = [], 0, {}
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self.session = {"sessionId": self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]}
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        self.count += 1
        message = {"id": self.count, "method": method, "params": params, **self.session}
        self.commands.write(json.dumps(message).encode() + b"\0")
        while (reply := self.read()).get("id") != self.count:
            self.events.append(reply)
        assert "error" not in reply, reply
        return reply["result"]

    def read(self):
        return json.loads(b"".join(iter(lambda: self.messages.read(1).strip(b"\0"), b"")))

    def open(self, path, width=1280, height=1200):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self.read())

    def seen(self, method):
        return [event["params"] for event in self.events if event["method"] == method]

    def js(self, expression):
        reply = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in reply, reply
        return reply["result"].get("value")

    def wait_for(self, condition):
        self.js(f"(async () => {{ while (!({condition})) await new Promise((wake) => setTimeout(wake, 20)); }})()")

    def point(self, selector, across=0.5, down=0.5):
        """(x, y) in pixels of a place in the first element of that kind."""
        box = self.js(f"document.querySelector({json.dumps(selector)}).getBoundingClientRect().toJSON()")
        return box["x"] + across * box["width"], box["y"] + down * box["height"]

    def hover(self, selector, across=0.5, down=0.5):
        x, y = self.point(selector, across, down)
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        self.wait_for("!tooltip.hidden")
        return self.js("tooltip.innerText").split("\n")

    def click(self, selector, across=0.5, down=0.5):
        x, y = self.point(selector, across, down)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key, times=1):
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        code = {"Enter": 13, "Tab": 9, " ": 32, "ArrowLeft": 37, "ArrowRight": 39, "ArrowDown": 40}.get(key, 0)
        for _ in range(times):
            self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=text, windowsVirtualKeyCode=code)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def color(self, selector, across=0.5, down=0.5):
        """(red, green, blue) of a pixel as the reader sees it."""
        picture = Image.open(BytesIO(base64.b64decode(self.call("Page.captureScreenshot")["data"])))
        return picture.convert("RGB").getpixel(tuple(int(place) for place in self.point(selector, across, down)))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine (`apt-get install chromium`)")
    browser = Browser(chromium, tmp_path_factory.mktemp("browser"))
    yield browser
    browser.call("Browser.close")
    browser.process.wait(timeout=30)


SEEN_AND_HEARD = Trace(  # step t lies between t and t + 1 seconds
    grid=FeatureGrid(frame_rate=1.0, stride=1, window=1),
    labels=("dog", "cat"),
    semantic=np.zeros((2, 3, 5, 2), np.float16),
    router=np.full((2, 5, 2), 0.5, np.float16),
)
SEEN_AND_HEARD.semantic[1, 2, 3, 0] = 1.0  # stage 2, fused, step 3, dog
SEEN_AND_HEARD.semantic[0, 1, 2, 0] = 0.6  # stage 1, audio, step 2, dog
SEEN_AND_HEARD.router[0, 3] = [0.25, 0.75]


def test_the_page_plays_seeks_and_filters(browser, tmp_path):
    events = [
        {"start": 0.5, "end": 1.5, "label": HOSTILE, "score": 0.75},
        {"start": 0.25, "end": 1.0, "label": "cat", "score": 0.5},
    ]
    path, video = tmp_path / "events.html", write_video(tmp_path / "site.mp4", seconds=4)
    save_timeline_html(
        path, events, labels=[HOSTILE, "cat"], video=video, title=HOSTILE, waveform=np.ones((4, 2)), duration=4.0
    )
    browser.open(path)
    browser.wait_for("video.readyState >= 2")
    assert browser.js("[document.title, document.querySelectorAll('.lane .label')[2].textContent]") == [HOSTILE] * 2
    assert browser.js("[...document.querySelectorAll('.event')].map((node) => node.getAttribute('aria-label'))") == [
        f"{HOSTILE}, 0.50 – 1.50 s, found, score 0.750",
        "cat, 0.25 – 1.00 s, found, score 0.500",
    ]

    def is_at(seconds):
        browser.wait_for(f"Math.abs(video.currentTime - {seconds}) < 0.01 && !video.seeking")
        return browser.js("byId('clock').textContent") == f"0:0{seconds:.1f} / 0:04.0"

    browser.click(".event.found")
    assert is_at(0.5)
    browser.click(".track.sound", across=0.25)  # of 4 s
    assert is_at(1.0)
    browser.click(".lane:last-child .track", across=0.75)
    assert is_at(3.0)
    browser.click("#axis", across=0.5)
    assert is_at(2.0)
    browser.press("ArrowRight")
    assert is_at(3.0)
    browser.press("ArrowLeft", times=2)
    assert is_at(1.0)

    browser.js("threshold.focus()")
    while not browser.js("document.activeElement.matches('.event')"):
        browser.press("Tab")
    assert browser.js("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press("Enter")
    assert is_at(0.5)
    browser.press(" ")  # plays; the focused event does not take it as a press
    browser.wait_for("!video.paused && now > 0.7")
    assert 0.7 < browser.js("Number(byId('playhead').style.getPropertyValue('--time'))") <= 4.0
    browser.press(" ")
    browser.wait_for("video.paused")

    assert browser.hover(".event.found") == [HOSTILE, "0.50 – 1.50 s", "found, score 0.750"]
    browser.js("threshold.value = 0.6; threshold.dispatchEvent(new Event('input'))")
    assert browser.js("byId('count').textContent") == "1 of 2 found"
    assert browser.js("document.querySelectorAll('.event.found:not([hidden])').length") == 1


def test_nothing_leaves_the_page(browser, tmp_path):
    path, video = tmp_path / "events.html", write_video(tmp_path / "site.mp4", seconds=4)
    save_timeline_html(path, FOUND, TRUE, 9.0, video, waveform=np.ones((4, 2)), trace=SEEN_AND_HEARD)
    browser.open(path)
    browser.wait_for("video.readyState >= 2")
    requests = [request["request"]["url"].split(":")[0] for request in browser.seen("Network.requestWillBeSent")]
    assert set(requests) <= {"file", "blob", "data"}  # the page, its video, and the browser's own buttons on it
    assert not browser.seen("Log.entryAdded") and not browser.seen("Runtime.exceptionThrown")
    refused = browser.js("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')")
    assert refused == "refused"
    assert any("Content Security Policy" in entry["entry"]["text"] for entry in browser.seen("Log.entryAdded"))


def test_strips_have_the_colour_and_the_number_of_their_step(browser, tmp_path):
    path = tmp_path / "events.html"
    save_timeline_html(path, FOUND[:1], duration=5.0, trace=SEEN_AND_HEARD)
    browser.open(path)
    stage_1, stage_2 = ".strips .track:nth-child(1)", ".strips .track:nth-child(2)"
    dog = tuple(bytes.fromhex(PALETTE[0][1:]))
    assert browser.color(stage_2, across=3.5 / 5) == dog
    assert browser.color(stage_2, across=3.02 / 5) == browser.color(stage_2, across=3.98 / 5) == dog
    assert browser.color(stage_2, across=2.98 / 5) == browser.color(stage_1, across=3.5 / 5) != dog
    assert browser.hover(stage_2, across=3.1 / 5) == ["dog, fused, stage 2", "3.50 s", "probability 1.00"]
    assert browser.hover(stage_2, across=2.5 / 5)[-1] == "probability 0.00"
    browser.click(stage_2, across=0.8)
    assert browser.js("now") == pytest.approx(4.0, abs=0.01)

    browser.js("byId('stream').focus()")
    browser.press("ArrowDown")  # from fused to audio, and not to another second
    assert browser.js("[byId('stream').value, document.querySelector('.label.muted').textContent]") == [
        "audio",
        "audio, stages 1 – 2",
    ]
    assert browser.js("now") == pytest.approx(4.0, abs=0.01)
    assert browser.hover(stage_1, across=2.5 / 5) == ["dog, audio, stage 1", "2.50 s", "probability 0.60"]
    browser.press("ArrowDown", times=2)
    assert browser.js("[byId('stream').selectedOptions[0].text, document.querySelector('.strips').hidden]") == [
        "hidden",
        True,
    ]


def test_router_strips_share_each_step_among_the_experts(browser, tmp_path):
    path = tmp_path / "events.html"
    save_timeline_html(path, [], duration=5.0, trace=SEEN_AND_HEARD)
    browser.open(path)
    first, second = (0.8 * np.array(list(bytes.fromhex(color[1:]))) + 0.2 * 255 for color in PALETTE[:2])  # on white
    for across, down, color in [(3.5, 0.2, first), (3.5, 0.3, second), (2.5, 0.45, first), (2.5, 0.55, second)]:
        np.testing.assert_allclose(browser.color(".router .track", across / 5, down), color, atol=3)
    lines = ["router, layer 1", "3.50 s", "expert 1: 0.25", "expert 2: 0.75"]
    assert browser.hover(".router .track", across=3.5 / 5) == lines
    assert browser.js("document.querySelector('.experts').innerText.split('\\n')") == ["expert 1", "expert 2"]
    browser.click("#experts")
    assert browser.js("[...document.querySelectorAll('.router')].every((row) => row.hidden)")


# Texts that are cut off: by the edge of the window, or by what clips around them.
CUT_OFF = """
[...document.querySelectorAll("main *")].filter((node) => node.checkVisibility() && !node.closest("video, option"))
  .flatMap((node) => [...node.childNodes].filter((child) => child.nodeType === 3 && child.data.trim()))
  .filter((text) => {
    const range = document.createRange();
    range.selectNodeContents(text);
    const { left, right, top, bottom } = range.getBoundingClientRect();
    if (left < 0 || right > document.documentElement.clientWidth) return true;
    for (let node = text.parentElement; node; node = node.parentElement) {
      const box = node.getBoundingClientRect();
      if (getComputedStyle(node).overflowX !== "visible" &&
          (left < box.left - 1 || right > box.right + 1 || top < box.top - 1 || bottom > box.bottom + 1)) return true;
    }
  }).map((text) => text.data)
"""


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_readable_and_its_lanes_are_on_one_time_axis(width, browser, tmp_path):
    path, video = tmp_path / "events.html", write_video(tmp_path / "site.mp4", seconds=4)
    long_name = {"label": "a class with a name of many words and " + "m" * 60, "start": 8.0, "end": 9.0, "score": 0.4}
    trace, sound = SEEN_AND_HEARD, np.ones((4, 2))
    save_timeline_html(path, [*FOUND, long_name], TRUE, 9.0, video, None, "site " * 30, sound, trace)
    browser.open(path, width=width)
    browser.wait_for("video.readyState >= 2")
    assert browser.js("document.documentElement.scrollWidth") <= width
    assert browser.js("timeline.scrollWidth === timeline.clientWidth")
    assert browser.js(CUT_OFF) == []
    ticks = browser.js(
        "[...document.querySelectorAll('.tick')].map((node) => [node.textContent, node.getBoundingClientRect().left])"
    )
    assert ticks[0][0] == "0:00" and len(ticks) >= 3
    assert min(np.diff([left for _, left in ticks])) >= 60  # pixels, more than a text is wide
    pixels_per_second = (ticks[1][1] - ticks[0][1]) / float(ticks[1][0].removeprefix("0:"))
    for event, start in [(".lane:nth-child(2) .event", 1.0), (".lane:nth-child(3) .event", 7.0)]:
        assert browser.point(event, across=0)[0] == pytest.approx(ticks[0][1] + start * pixels_per_second, abs=1)
    browser.js("seek(3)")
    assert browser.point("#playhead")[0] == pytest.approx(ticks[0][1] + 3 * pixels_per_second, abs=1)
    assert browser.point(".sound svg", across=1)[0] == pytest.approx(ticks[0][1] + 9 * pixels_per_second, abs=1)


def test_zoom_keeps_the_playhead_of_a_long_page_in_view(browser, tmp_path):
    path, hours = tmp_path / "events.html", 6 * 3600.0
    save_timeline_html(path, [FOUND[0] | {"start": 9000.0, "end": 9001.5}], duration=hours)
    browser.open(path)
    assert browser.hover(".event") == ["dog", "2:30:00.00 – 2:30:01.50", "found, score 0.900"]
    browser.click(".event")
    browser.press("+", times=3)
    assert browser.js("zoom") == 8
    browser.press("+", times=20)
    assert browser.js("[zoom, byId('in').disabled]") == [1024, True]
    left, right = browser.point("#timeline", across=0)[0] + 176, browser.point("#timeline", across=1)[0]
    assert left < browser.point("#playhead")[0] < right
    assert right - left > browser.js("document.querySelector('.event').offsetWidth") > 60  # 1.5 of 21 s in 1030 pixels
    browser.press("ArrowRight", times=15)  # beyond the right edge
    browser.wait_for("isInView()")
    assert left < browser.point("#playhead")[0] < right
    assert browser.js("document.documentElement.scrollWidth") <= 1280
    browser.js("timeline.scrollLeft = 0")  # a reader who looks elsewhere is left there
    browser.wait_for("!following")
    browser.js("showTime()")
    assert browser.js("timeline.scrollLeft") == 0
    browser.press("-", times=20)
    assert browser.js("[zoom, byId('out').disabled, timeline.scrollLeft]") == [1, True, 0]


def test_a_page_of_five_thousand_events_takes_a_browser_less_than_five_seconds(browser, tmp_path):
    path = tmp_path / "events.html"
    events = [
        {"start": 4.0 * i, "end": 4.0 * i + 10, "label": f"class {i % 20}", "score": i % 100 / 100} for i in range(5000)
    ]
    save_timeline_html(path, events)
    browser.call("Performance.enable", timeDomain="threadTicks")  # seconds of its processor, whatever else runs
    browser.open(path)
    browser.js("threshold.value = 0.5; threshold.dispatchEvent(new Event('input'))")
    browser.js("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    assert browser.js("byId('count').textContent") == "2500 of 5000 found"
    metrics = {metric["name"]: metric["value"] for metric in browser.call("Performance.getMetrics")["metrics"]}
    assert metrics["TaskDuration"] < 5
