import math

import matplotlib
import matplotlib.pyplot as plt
import pytest
from matplotlib.patches import Rectangle

from esg_transformers.visualization.page import save_timeline_html
from esg_transformers.visualization.timeline import plot_events

FOUND = [
    {"start": 1.0, "end": 4.0, "label": "dog", "score": 0.9},
    {"start": 3.0, "end": 6.0, "label": "dog", "score": 0.2},
    {"start": 7.0, "end": 9.0, "label": "cat", "score": 0.5},
]
TRUE = [{"start": 0.5, "end": 4.0, "label": "dog"}]


@pytest.fixture(autouse=True)
def draw_without_a_screen():
    matplotlib.use("Agg")
    yield
    plt.close("all")


def bars(ax):
    return [patch for patch in ax.patches if isinstance(patch, Rectangle)]


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
    ax = plot_events([{"start": 0.0, "end": 1.0, "label": "<b> & {{timeline}} $x_{"}], title="$\\frac{")
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
