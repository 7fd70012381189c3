"""The page in a browser; skipped where there is no Chromium."""

import base64
import json
import os
import shutil
import subprocess
from io import BytesIO

import av
import numpy as np
import pytest
from PIL import Image

from esg_transformers.localization.trace import Trace
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid
from esg_transformers.visualization.page import save_timeline_html
from esg_transformers.visualization.timeline import PALETTE

pytestmark = pytest.mark.slow

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
