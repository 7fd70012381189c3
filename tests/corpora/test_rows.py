import numpy as np
import pytest

from esg_transformers.corpora.rows import checked_row, row_features, row_groups


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"visual_features": np.full((19, 6), np.nan, np.float16)}, "`visual_features`.* 114 values .*NaN"),
        ({"audio_features": np.full((19, 4), 1e5, np.float64)}, "`audio_features` reach 100000.* 65,504"),
        ({"audio_features": np.zeros((19, 5), np.float16)}, r"`audio_features`.*\(19, 5\).*\(steps, 4\)"),
        ({"audio_features": np.zeros((18, 4), np.float16)}, r"\[18, 19\] steps"),
        ({"visual_features": None, "audio_features": None}, r"\[\] steps"),
        ({"duration": 5.0}, "19 steps; a video of 5 s has 9"),
        ({"duration": float("nan")}, "duration is nan s"),
        ({"duration": 0.0}, "duration is 0.0 s"),
        ({"labels": np.array([0, 2])}, "label 2.* 2 classes"),
        ({"labels": np.array([-100, 0])}, "label -100.* 2 classes"),
        ({"labels": np.array([0])}, r"segments are \(2, 2\).* labels \(1,\)"),
        ({"segments": np.array([[0.0, 1.0], [5.0, 10.5]])}, "5.0 s to 10.5 s .* 10.0 s"),
        ({"segments": np.array([[0.0, 1.0], [5.0, np.nan]])}, "5.0 s to nan s .* 10.0 s"),
        ({"segments": np.array([[0.0, 1.0], [5.0, 5.0]])}, "5.0 s to 5.0 s .* 10.0 s"),
        ({"video_id": "../b"}, "id .*file name"),
    ],
)
def test_an_example_that_cannot_be_stored_is_refused(make_example, spec, changes, message):
    with pytest.raises(ValueError, match=message):
        checked_row(make_example() | changes, spec, num_labels=2)


def test_an_absent_stream_is_stored_as_zeros(make_example, spec):
    row = checked_row(make_example(visual_features=None), spec, num_labels=2)
    assert (row["has_visual"], row["has_audio"]) == (False, True)
    assert row["visual_features"].shape == (19, 6)
    assert not row["visual_features"].any()


def test_float32_features_are_stored_as_the_nearest_float16(make_example, spec):
    features = np.random.default_rng(0).normal(size=(19, 6)).astype(np.float32)
    row = checked_row(make_example(visual_features=features), spec, num_labels=2)
    np.testing.assert_array_equal(row["visual_features"], features.astype(np.float16))


def test_row_groups_hold_as_many_rows_as_fit_and_at_least_one(make_example, spec):
    rows = [checked_row(make_example(str(index), index), spec, num_labels=2) for index in range(5)]
    schema = row_features(spec, ("dog barking", "speech")).arrow_schema
    row_size = 19 * (6 + 4) * 2  # bytes
    sizes = lambda max_size: [len(table) for table in row_groups(rows, schema, max_size)]  # noqa: E731
    assert sizes(2 * row_size) == [2, 2, 1]
    assert sizes(2 * row_size - 1) == [1, 1, 1, 1, 1]
    assert sizes(1) == [1, 1, 1, 1, 1]
