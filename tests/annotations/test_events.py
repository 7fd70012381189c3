import numpy as np
import pytest

from esg_transformers.annotations.events import AnnotatedVideo, Annotations, Event


def test_a_split_keeps_all_labels_and_an_unknown_split_is_refused_with_the_known_ones():
    videos = {
        "a": AnnotatedVideo("a", 10.0, "train", (Event(0.0, 1.0, "speech"),)),
        "b": AnnotatedVideo("b", 10.0, "test", ()),
    }
    annotations = Annotations(videos, ("speech",))
    assert list(annotations.split("test").videos) == ["b"]
    assert annotations.split("test").labels == ("speech",)
    with pytest.raises(ValueError, match=r"'val'.*'train' \(1 videos\), 'test' \(1 videos\)"):
        annotations.split("val")


@pytest.mark.parametrize("labels", [("dog barking",), ("speech", "speech")])
def test_every_label_of_an_event_must_be_listed_once(labels):
    videos = {"a": AnnotatedVideo("a", 10.0, "train", (Event(0.0, 1.0, "speech"),))}
    with pytest.raises(ValueError, match=r"`labels` .*\['speech'\]"):
        Annotations(videos, labels)


def test_durations_are_given_if_all_are_known():
    videos = {"a": AnnotatedVideo("a", 7.5, "train", ()), "b": AnnotatedVideo("b", None, "train", ())}
    assert Annotations({"a": videos["a"]}, ()).durations() == {"a": 7.5}
    with pytest.raises(ValueError, match=r"duration of 1 of 2 videos .*'b'.* `durations`"):
        Annotations(videos, ()).durations()


def test_targets_are_segments_in_seconds_and_class_ids_also_without_events():
    video = AnnotatedVideo("a", 10.0, "train", (Event(0.5, 2.0, "speech"), Event(1.0, 4.0, "alarm")))
    empty = AnnotatedVideo("b", 10.0, "train", ())
    annotations = Annotations({"a": video, "b": empty}, ("alarm", "speech"))
    segments, class_ids = annotations.targets_of(video)
    np.testing.assert_array_equal(segments, [[0.5, 2.0], [1.0, 4.0]])
    np.testing.assert_array_equal(class_ids, [1, 0])
    segments, class_ids = annotations.targets_of(empty)
    assert (segments.shape, class_ids.shape) == ((0, 2), (0,))
