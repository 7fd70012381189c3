import json
import struct

import pytest


@pytest.fixture(scope="module")
def annotations(tmp_path_factory):
    path = tmp_path_factory.mktemp("annotations") / "events.csv"
    path.write_text(
        "video_id,start,end,label,duration,split\na,2,6,alarm,10,train\na,3,6,dog,10,train\nb,1,2,dog,10,test\n"
    )
    return path


def test_annotations_of_any_format_are_described_in_text_json_and_a_picture(run, annotations, tmp_path):
    words = ["--annotations", annotations, "--feature-set", "i3d-vggish"]
    files = {"--report": tmp_path / "description.json", "--picture": tmp_path / "description.png"}
    code, output, _ = run("corpus", "describe", *words, files)
    assert code == 0
    lines = [line.split() for line in output.splitlines()]
    assert ["train", "1", "0", "2", "2.00", "2", "0.00"] in lines
    assert ["dog", "1", "1"] in lines
    assert ["alarm", "+", "dog", "1", "3.00"] in lines
    assert "66.7% of the events overlap another." in output
    description = json.loads((tmp_path / "description.json").read_text())
    assert description["at_once"] == [15.0, 2.0, 3.0]
    assert len(description["reach"]["levels"]) == 6
    png = (tmp_path / "description.png").read_bytes()
    width, height = struct.unpack(">II", png[16:24])
    assert png.startswith(b"\x89PNG") and width > 1000 and height > 800
    assert {path.name for path in tmp_path.iterdir()} == {"description.json", "description.png"}


def test_a_corpus_is_described_with_its_own_grid(run, corpus):
    code, output, _ = run("corpus", "describe", "--corpus", corpus, "--levels", 4)
    assert code == 0
    assert output.startswith("split ")
    assert "seconds a step" in output


def test_unclear_sources_and_pictures_are_refused(refused, corpus, annotations, tmp_path):
    assert "Give either --corpus, or --annotations" in refused("corpus", "describe")
    assert "Give either --corpus" in refused("corpus", "describe", "--corpus", corpus, "--annotations", annotations)
    words = ["corpus", "describe", "--annotations", annotations]
    assert "picture.exe; its suffix must be one of .png, .svg, .pdf" in refused(
        *words, "--picture", tmp_path / "picture.exe"
    )
    assert "there is no folder" in refused(*words, "--report", tmp_path / "nowhere" / "a.json")
