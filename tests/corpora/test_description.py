import json

import numpy as np
import pytest

from esg_transformers.annotations.events import AnnotatedVideo, Annotations, Event
from esg_transformers.corpora.description import describe, plot_description, pyramid_reach
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid

LABELS = ("alarm", "dog", "speech")
ANNOTATIONS = Annotations(
    {
        # alarm ..####....  dog ...###....  speech #.........  and another dog ........##
        "a": AnnotatedVideo(
            "a", 10.0, "train", (Event(2, 6, "alarm"), Event(3, 6, "dog"), Event(0, 1, "speech"), Event(8, 10, "dog"))
        ),
        "b": AnnotatedVideo("b", 30.0, "train", ()),
        "c": AnnotatedVideo("c", 20.0, "test", (Event(5, 15, "dog"), Event(5, 10, "alarm"))),
    },
    LABELS,
)
GRID = FeatureGrid(frame_rate=1.0, stride=1, window=2)  # step g is at g + 1 s


def test_videos_events_and_hours_are_counted_by_split_and_class():
    description = describe(ANNOTATIONS)
    assert description["splits"]["train"] == {
        "videos": 2,
        "videos_without_events": 1,
        "events": 4,
        "events_per_video": 2.0,
        "classes": 3,
        "hours": 40 / 3600,
    }
    assert description["classes"] == {
        "alarm": {"train": 1, "test": 1},
        "dog": {"train": 2, "test": 1},
        "speech": {"train": 1, "test": 0},
    }


def test_overlap_is_counted_in_events_and_in_seconds():
    description = describe(ANNOTATIONS)
    assert description["overlapping_events"] == 4 / 6  # alarm and dog, in a and in c
    # Two at once: 3-6 s of a, 5-10 s of c. One: 0-1, 2-3, 8-10 s of a, 10-15 s of c. None: all else of 60 s.
    assert description["at_once"] == [60 - 9 - 8, 9.0, 8.0]


def test_events_that_only_touch_do_not_overlap():
    videos = {"a": AnnotatedVideo("a", 4.0, "train", (Event(0, 2, "dog"), Event(2, 4, "dog")))}
    description = describe(Annotations(videos, ("dog",)))
    assert (description["overlapping_events"], description["at_once"]) == (0.0, [0.0, 4.0])


def test_classes_come_together_in_videos_and_at_once():
    description = describe(ANNOTATIONS)
    assert description["co_occurrence"]["videos"] == [[2, 2, 1], [2, 2, 1], [1, 1, 1]]
    # alarm 4 + 5 s, dog 3 + 2 + 10 s, both at once 3 + 5 s
    assert description["co_occurrence"]["seconds"] == [[9.0, 8.0, 0.0], [8.0, 15.0, 0.0], [0.0, 0.0, 1.0]]
    assert description["pairs"][0] == {"labels": ["alarm", "dog"], "videos": 2, "seconds": 8.0}
    assert [pair["labels"] for pair in description["pairs"][1:]] == [["alarm", "speech"], ["dog", "speech"]]


def test_quantiles_and_histogram_hold_every_event_length():
    description = describe(ANNOTATIONS)  # lengths 1, 2, 3, 4, 5, 10 s
    assert description["event_lengths"]["shortest"] == 1.0
    assert description["event_lengths"]["median"] == 3.5
    assert description["event_lengths"]["longest"] == 10.0
    assert description["durations"]["median"] == 20.0
    edges, events = description["histogram"]["edges"], description["histogram"]["events"]
    assert sum(events) == 6
    assert edges[0] == 1.0  # 2**0
    np.testing.assert_allclose(np.divide(edges[1:], edges[:-1]), 2**0.5)


def test_a_level_reaches_events_whose_farther_end_is_in_its_range():
    events = (
        Event(10.25, 10.75, "dog"),  # between the steps at 10 and 11 s: no point is inside
        Event(10.5, 12.5, "dog"),  # farthest ends from 1 to 1.5: level 0, up to 4
        Event(1.5, 7.0, "dog"),  # 5.5 s: 2.75 to 5.5 from its points: level 0, and level 1, from 4 to 8, at 3 s: 4
        Event(0.5, 24.5, "dog"),  # 24 s: 12 and more: level 2, from 8 on
        Event(20.0, 60.0, "dog"),  # 40 s: 20 and more, while level 2 would end at 16, if it were not the last
    )
    annotations = Annotations({"a": AnnotatedVideo("a", 100.0, "train", events)}, ("dog",))
    reach = pyramid_reach(annotations, GRID, num_levels=3)
    assert [level["events"] for level in reach["levels"]] == [2 / 5, 1 / 5, 2 / 5]
    assert [level["step"] for level in reach["levels"]] == [1.0, 2.0, 4.0]
    assert [(level["shortest"], level["longest"]) for level in reach["levels"]] == [
        (2.0, 5.5),
        (5.5, 5.5),
        (24.0, 40.0),
    ]
    assert reach["without_points"] == 1 / 5
    assert reach["beyond_last_level"] == 1 / 5


def test_an_event_far_into_a_long_video_is_assigned_as_at_its_beginning():
    def shares(offset):
        events = (Event(offset + 1.5, offset + 7.0, "dog"), Event(offset + 10.25, offset + 10.75, "dog"))
        videos = {"a": AnnotatedVideo("a", 100_100.0, "train", events)}
        return [level["events"] for level in pyramid_reach(Annotations(videos, ("dog",)), GRID, 3)["levels"]]

    assert shares(0.0) == shares(100_000.0) == [0.5, 0.5, 0.0]  # 100,000 is a multiple of the last level's stride, 4


def test_points_beyond_the_end_of_a_video_are_assigned_no_event():
    # Steps of a 3 s video are at 1 and 2 s; one at 3 s, inside the event, is only there in a longer video.
    videos = {
        "short": AnnotatedVideo("short", 3.0, "train", (Event(2.1, 3.0, "dog"),)),
        "long": AnnotatedVideo("long", 50.0, "train", (Event(2.1, 3.1, "dog"),)),
    }
    reach = pyramid_reach(Annotations(videos, ("dog",)), GRID, num_levels=2)
    assert reach["without_points"] == 1 / 2


def test_annotations_without_events_durations_or_videos_are_described():
    without_duration = AnnotatedVideo("a", None, "train", (Event(1, 3, "dog"),))
    description = describe(Annotations({"a": without_duration}, ("dog",)), GRID)
    assert description["splits"]["train"]["hours"] is None
    assert description["at_once"] == [1.0, 2.0]
    for annotations in (Annotations({}, ()), Annotations({"b": ANNOTATIONS.videos["b"]}, ("dog",))):
        description = describe(annotations, GRID)
        assert description["event_lengths"] == {}
        assert description["reach"]["levels"][0]["shortest"] is None
        plot_description(description).draw_without_rendering()


def test_a_description_is_json_and_the_picture_shows_it():
    description = json.loads(json.dumps(describe(ANNOTATIONS, GRID)))
    figure = plot_description(description)
    classes, lengths, at_once, together = figure.axes[:4]
    assert [name.get_text() for name in classes.get_xticklabels()] == ["dog", "alarm", "speech"]  # most events first
    assert sum(bar.get_height() for bar in classes.patches) == 6
    assert "level 0: 67%" in [text.get_text() for text in lengths.texts]
    assert [round(bar.get_height(), 1) for bar in at_once.patches] == [71.7, 15.0, 13.3]  # of 60 s
    assert together.images[0].get_array()[0, 1] == 2  # videos with dog and alarm


def test_a_picture_of_many_classes_leaves_out_their_names(tmp_path):
    labels = tuple(f"class ${index:02d}$" for index in range(60))
    videos = {label: AnnotatedVideo(label, 10.0, "train", (Event(1, 2, label),)) for label in labels}
    figure = plot_description(describe(Annotations(videos, labels)))
    assert figure.axes[0].get_xlabel() == "classes, by their number of events"
    figure.savefig(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def test_a_pyramid_without_levels_is_refused():
    with pytest.raises(ValueError, match="got 0"):
        pyramid_reach(ANNOTATIONS, GRID, 0)
