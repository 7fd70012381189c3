import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esg_transformers.annotations.elan import scan_elan, write_elan
from esg_transformers.annotations.events import AnnotatedVideo, Annotations, Event
from esg_transformers.annotations.reading import AnnotationReading

DOCUMENT = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2018-03-24T18:09:00-06:00" FORMAT="3.0" VERSION="3.0"
    xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
    xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">
    <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
        <MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/site/other.mp4" MIME_TYPE="video/mp4"/>
    </HEADER>
    <TIME_ORDER>
        <TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="1250"/>
        <TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="3070"/>
        <TIME_SLOT TIME_SLOT_ID="ts3"/>
        <TIME_SLOT TIME_SLOT_ID="ts4" TIME_VALUE="9000"/>
    </TIME_ORDER>
    <TIER LINGUISTIC_TYPE_REF="sounds" TIER_ID="yard">
        <ANNOTATION>
            <ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">
                <ANNOTATION_VALUE>dog &amp; <![CDATA[cat]]></ANNOTATION_VALUE>
            </ALIGNABLE_ANNOTATION>
        </ANNOTATION>
    </TIER>
    <TIER LINGUISTIC_TYPE_REF="sounds" TIER_ID="gate">
        <ANNOTATION>
            <ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts2" TIME_SLOT_REF2="ts4">
                <ANNOTATION_VALUE>alarm</ANNOTATION_VALUE>
            </ALIGNABLE_ANNOTATION>
        </ANNOTATION>
    </TIER>
    <TIER LINGUISTIC_TYPE_REF="notes" PARENT_REF="gate" TIER_ID="notes" />
    <LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="sounds" TIME_ALIGNABLE="true"/>
</ANNOTATION_DOCUMENT>
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "site 3.eaf"


def scan(path, text=None):
    if text is not None:
        path.write_text(text, encoding="utf-8")
    reading = AnnotationReading(path, "set of ELAN documents")
    return scan_elan(reading), reading.problems


def write(path, *events):
    video = AnnotatedVideo("site 3", None, "train", events)
    write_elan(Annotations({"site 3": video}, tuple(sorted({event.label for event in events}))), path)
    return ElementTree.parse(path).getroot()


def kinds(problems):
    return [(problem.severity, problem.kind) for problem in problems]


def test_annotations_of_all_tiers_are_events_of_the_video_that_the_file_is_named_after(path):
    annotations, problems = scan(path, DOCUMENT)
    assert list(annotations.videos) == ["site 3"]
    assert annotations.videos["site 3"].events == (Event(1.25, 3.07, "dog & cat"), Event(3.07, 9.0, "alarm"))
    assert problems == []


@pytest.mark.parametrize("slot", ["ts3", "ts9"])
def test_an_annotation_without_a_time_is_a_problem(path, slot):
    annotations, problems = scan(path, DOCUMENT.replace('TIME_SLOT_REF2="ts4"', f'TIME_SLOT_REF2="{slot}"'))
    assert kinds(problems) == [("error", "unaligned annotation")]
    assert [event.label for event in annotations.videos["site 3"].events] == ["dog & cat"]


def test_annotations_that_refer_to_others_are_counted_and_ignored(path):
    reference = (
        '<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a3" ANNOTATION_REF="a2"><ANNOTATION_VALUE>loud</ANNOTATION_VALUE>'
        "</REF_ANNOTATION></ANNOTATION>"
    )
    annotations, problems = scan(path, DOCUMENT.replace('TIER_ID="notes" />', f'TIER_ID="notes">{reference}</TIER>'))
    assert annotations.labels == ("alarm", "dog & cat")
    assert kinds(problems) == [("warning", "references")]
    assert problems[0].message.startswith("1 annotations")


@pytest.mark.parametrize("value", ["-5", "9" * 5000, "nan", "soon", "", "٣"])
def test_a_time_that_is_no_number_is_a_problem(path, value):
    annotations, problems = scan(path, DOCUMENT.replace('"9000"', f'"{value}"'))
    assert kinds(problems) == [("error", "bad event")]
    assert len(annotations.videos["site 3"].events) == 1


def test_a_time_slot_that_is_there_twice_is_a_problem(path):
    _, problems = scan(path, DOCUMENT.replace('TIME_SLOT_ID="ts3"', 'TIME_SLOT_ID="ts1"'))
    assert ("error", "repeated time slot") in kinds(problems)


def test_a_video_that_the_time_line_is_moved_against_is_warned_of(path):
    annotations, problems = scan(path, DOCUMENT.replace("<MEDIA_DESCRIPTOR", '<MEDIA_DESCRIPTOR TIME_ORIGIN="5000"'))
    assert kinds(problems) == [("warning", "moved media")]
    assert annotations == scan(path, DOCUMENT)[0]


def test_a_folder_is_many_videos(tmp_path):
    scan(tmp_path / "b.eaf", DOCUMENT)
    scan(tmp_path / "a.eaf", DOCUMENT)
    (tmp_path / "notes.txt").write_text("not read")
    assert list(scan(tmp_path)[0].videos) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not an XML file"),
        ("<a>", "is not an XML file"),
        ("<a/>", "is not an ELAN file"),
        (DOCUMENT.replace("milliseconds", "PAL-frames"), "PAL-frames"),
        (DOCUMENT.replace("?>", '?><!DOCTYPE a [<!ENTITY b "c">]>', 1), "<!DOCTYPE"),
    ],
)
def test_another_layout_is_refused_by_name(path, text, message):
    with pytest.raises(ValueError, match=message) as refusal:
        scan(path, text)
    assert str(path) in str(refusal.value)


def test_overlapping_events_of_a_label_are_on_two_tiers_and_others_of_it_on_one(path):
    root = write(path, Event(0.0, 2.0, "dog"), Event(1.0, 3.0, "dog"), Event(2.0, 4.0, "dog"), Event(1.0, 2.0, "cat"))
    tiers = {tier.get("TIER_ID"): len(tier) for tier in root.iterfind("TIER")}
    assert tiers == {"dog": 2, "cat": 1, "dog (2)": 1}


def test_a_document_has_the_parts_of_eaf_in_their_order_and_with_all_that_they_need(path):
    # EAFv3.0.xsd: the sequence of ANNOTATION_DOCUMENT, its required attributes, and its keys and references
    root = write(path, Event(0.0, 2.0, "dog"), Event(1.0, 3.0, '<dog> & "co"'))
    assert [part.tag for part in root] == ["HEADER", "TIME_ORDER", "TIER", "TIER", "LINGUISTIC_TYPE"]
    assert {"AUTHOR", "DATE", "VERSION", "FORMAT"} <= set(root.keys())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", root.get("DATE"))
    assert {tier.get("LINGUISTIC_TYPE_REF") for tier in root.iterfind("TIER")} == {
        root.find("LINGUISTIC_TYPE").get("LINGUISTIC_TYPE_ID")
    }
    slots = [slot.get("TIME_SLOT_ID") for slot in root.iter("TIME_SLOT")]
    used = [annotation.get(f"TIME_SLOT_REF{end}") for annotation in root.iter("ALIGNABLE_ANNOTATION") for end in (1, 2)]
    assert sorted(slots) == sorted(used)
    assert len(set(slots)) == 4


def test_a_video_without_events_is_a_document_without_tiers(path):
    assert write(path).findall("TIER") == []
    assert scan(path)[0].videos["site 3"].events == ()


def test_an_event_shorter_than_a_millisecond_keeps_one_and_stays_in_the_video(path):
    write(path, Event(9.9997, 10.0, "clap"), Event(1.0, 1.0001, "clap"))
    assert scan(path)[0].videos["site 3"].events == (Event(1.0, 1.001, "clap"), Event(9.999, 10.0, "clap"))


def test_a_label_that_xml_cannot_hold_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"'a\\uffff' .*XML"):
        write(tmp_path / "a.eaf", Event(0.0, 1.0, "a\uffff"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("video_id", ["../a", "/a", "a/b", ".."])
def test_no_document_leaves_its_folder(tmp_path, video_id):
    videos = {video_id: AnnotatedVideo(video_id, None, "train", ())}
    with pytest.raises(ValueError, match=re.escape(repr(video_id))):
        write_elan(Annotations(videos, ()), tmp_path / "documents")
    assert list(tmp_path.iterdir()) == []


IDS = st.text("aB3 .é日", min_size=1, max_size=9).map(lambda name: f"v{name}")
LABELS = st.text(st.characters(exclude_categories=["C"], exclude_characters="\u2028\u2029"), min_size=1, max_size=9)
MILLISECONDS = st.tuples(st.integers(0, 10**7), st.integers(1, 10**5), LABELS.filter(str.strip))


@settings(max_examples=60, deadline=None)
@given(content=st.dictionaries(IDS, st.lists(MILLISECONDS, max_size=4), max_size=3))
def test_events_at_milliseconds_survive_writing_and_reading(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("documents") / "annotations"
    events = {
        name: tuple(sorted((start / 1000, (start + length) / 1000, label) for start, length, label in timed))
        for name, timed in content.items()
    }
    videos = {
        name: AnnotatedVideo(name, None, "train", tuple(Event(*event) for event in timed))
        for name, timed in events.items()
    }
    labels = sorted({label for timed in events.values() for _, _, label in timed})
    write_elan(Annotations(videos, tuple(labels)), folder)
    if content:
        annotations, problems = scan(folder)
        assert [problem for problem in problems if problem.severity == "error"] == []
        assert annotations.labels == tuple(labels)
        read = {name: sorted((e.start, e.end, e.label) for e in v.events) for name, v in annotations.videos.items()}
        assert read == {name: list(timed) for name, timed in events.items()}
