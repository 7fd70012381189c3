import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from esg_transformers.corpora import feature_sets
from esg_transformers.corpora.feature_sets import FEATURE_SETS, read_feature_set
from esg_transformers.models.esg_net.grid_esg_net import EncoderId, FeatureGrid, FeatureSpec

I3D = FEATURE_SETS["i3d-vggish"]


def test_the_spec_of_a_feature_set_names_its_encoder():
    assert I3D.feature_spec == FeatureSpec(FeatureGrid(25.0, 8, 24), 2048, 128, EncoderId("i3d-vggish", "unav100"))


def test_feature_sets_are_known_without_loading_torch():
    program = "import esg_transformers.corpora.feature_sets, sys; assert not {'torch', 'datasets'} & set(sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr


def described(path, **changes):
    path.write_text(json.dumps({k: v for k, v in (asdict(I3D) | changes).items() if v is not None}))
    return path


def test_a_feature_set_is_read_from_json(tmp_path):
    assert read_feature_set(described(tmp_path / "set.json")) == I3D
    grid = FeatureGrid(10.0, 5, 10)
    own_clock = read_feature_set(described(tmp_path / "set.json", audio_grid=grid.to_dict()))
    assert own_clock == replace(I3D, audio_grid=grid)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": None}, r"missing: \['name'\], unknown: \[\]"),
        ({"suffix": "_rgb"}, r"missing: \[\], unknown: \['suffix'\]"),
        ({"version": 2}, "`version` is 2; .*str"),
        ({"visual_size": 2048.5}, "`visual_size` is 2048.5; .*int"),
        ({"visual_suffixes": "_rgb"}, "`visual_suffixes` is '_rgb'; .*list of strings"),
        ({"visual_suffixes": ["_rgb", "/../../other"]}, "`visual_suffixes` has '/../../other'"),
        ({"audio_suffixes": []}, "0 suffixes and 128 channels"),
        ({"visual_size": 2047}, "2 suffixes and 2047 channels"),
        ({"grid": [25, 8, 24]}, r"\[25, 8, 24\]; .*frame_rate, stride, window"),
        ({"grid": {"frame_rate": 25, "stride": 8.5, "window": 24}}, "whole numbers.* 8.5"),
        ({"grid": {"frame_rate": 0, "stride": 8, "window": 24}}, "frame_rate > 0"),
    ],
)
def test_a_json_file_that_does_not_describe_a_feature_set_is_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message) as refusal:
        read_feature_set(described(tmp_path / "set.json", **changes))
    assert str(tmp_path / "set.json") in str(refusal.value)


def test_what_is_no_json_object_is_no_feature_set(tmp_path):
    for text in ("[]", '"_rgb"', "{", '{"name": "a", "name": "b"}'):
        (tmp_path / "set.json").write_text(text)
        with pytest.raises(ValueError, match=r"set\.json"):
            read_feature_set(tmp_path / "set.json")


def test_the_readme_of_the_room_has_the_published_sets_and_a_json_file_that_is_one(tmp_path):
    readme = (Path(feature_sets.__file__).parent / "README.md").read_text(encoding="utf-8")
    for name, feature_set in FEATURE_SETS.items():
        [row] = [line for line in readme.splitlines() if line.startswith(f"| `{name}` |")]
        _, _, files, clock, channels, _ = (cell.strip() for cell in row.split("|"))
        suffixes = feature_set.visual_suffixes + feature_set.audio_suffixes
        assert files == ", ".join(f"`ID{suffix}.npy`" for suffix in suffixes)
        grid = feature_set.grid
        assert clock == f"{grid.step:g} s ({grid.frame_rate:g} fps, stride {grid.stride}, window {grid.window})"
        assert channels == f"{feature_set.visual_size} + {feature_set.audio_size}"
    (tmp_path / "mine.json").write_text(readme.split("```json")[1].split("```")[0])
    assert read_feature_set(tmp_path / "mine.json").audio_grid == FeatureGrid(100.0, 96, 96)
