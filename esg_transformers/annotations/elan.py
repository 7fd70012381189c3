"""ELAN documents (EAF 3.0), one per video."""

import math
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

from esg_transformers.annotations.events import Annotations, Event
from esg_transformers.annotations.folders import files_to_read, files_to_write
from esg_transformers.annotations.parsing import parse_number, read_annotation_text
from esg_transformers.annotations.reading import AnnotationReading
from esg_transformers.files import replacing

SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
SCHEMA_LOCATION = "{http://www.w3.org/2001/XMLSchema-instance}noNamespaceSchemaLocation"
NOT_IN_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")  # XML 1.0, production 2


def scan_elan(reading: AnnotationReading) -> Annotations:
    """Read an `.eaf` file, or all `.eaf` files of a folder (EAF 3.0, EAFv3.0.xsd of the MPI).

    The video id is the name of the file without `.eaf`. Each annotation with times of its own, on any tier, is an
    event, and its value is the label. Annotations that refer to others have no times and are ignored with a warning.
    EAF allows time slots without a value; an annotation that uses one is a problem. A document without annotations is
    a video without events. A media offset (`TIME_ORIGIN`) causes a warning: times are those of ELAN's time line.

    Files are read as UTF-8. A document type is refused: EAF has none, and it can make a small file expand to a huge
    one or refer to other files.

    Raises:
        FileNotFoundError: if the source does not exist.
        ValueError: if a file has another layout, or a folder has no `.eaf` file.
    """
    num_references = 0
    for path in files_to_read(reading.source, ".eaf"):
        document = _document(path)
        num_references += sum(1 for _ in document.iter("REF_ANNOTATION"))
        if reading.add_video(path.stem):
            _scan_document(reading, path.stem, document)
    if num_references:
        what = f"{num_references} annotations that refer to others are ignored"
        reading.add_problem("references", what, severity="warning")
    return reading.annotations()


def write_elan(annotations: Annotations, path: str | os.PathLike[str]) -> None:
    """Write documents that ELAN opens, one per video.

    Each label has a tier. Annotations of one tier must not overlap, so overlapping events of a label go to further
    tiers, named `label (2)`, `label (3)`, ... The media file is `ID.mp4` beside the document. Times are rounded to
    milliseconds, and an event lasts at least one. The format holds no scores, durations and splits.

    Args:
        annotations: videos and events.
        path: an `.eaf` file for one video, or a folder of `ID.eaf`; each existing file is replaced in one step.

    Raises:
        FileNotFoundError: if the parent folder of `path` does not exist.
        ValueError: if no file can be named after a video id, or an id or label has a character that XML does not
            allow.
    """
    for name in (*annotations.videos, *annotations.labels):
        if NOT_IN_XML.search(name):
            raise ValueError(f"{name!r} has a character that XML does not allow, so ELAN cannot hold it. Rename it.")
    for video_id, file_path in files_to_write(annotations, path, ".eaf").items():
        document = _new_document(video_id, annotations.videos[video_id].events)
        ElementTree.indent(document)
        with replacing(file_path) as file:
            file.write('<?xml version="1.0" encoding="UTF-8"?>\n')
            file.write(ElementTree.tostring(document, encoding="unicode"))


def _document(path: Path) -> ElementTree.Element:
    text = read_annotation_text(path)
    if "<!DOCTYPE" in text:
        raise ValueError(
            f"{path} has a document type (<!DOCTYPE ...>). ELAN writes none, and it is refused because it can make a "
            "small file expand to a huge one or refer to other files. Open and save the file in ELAN."
        )
    try:
        document = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"{path} is not an XML file: {error}.") from error
    if document.tag != "ANNOTATION_DOCUMENT":
        raise ValueError(f"{path} is not an ELAN file: its root is not <ANNOTATION_DOCUMENT>.")
    units = [header.get("TIME_UNITS", "milliseconds") for header in document.iterfind("HEADER")]
    if units != ["milliseconds"]:
        raise ValueError(f"{path} must have one <HEADER> with times in milliseconds; found {units}.")
    return document


def _scan_document(reading: AnnotationReading, video_id: str, document: ElementTree.Element) -> None:
    # By slot id: seconds, the text of a value that is no number, or None for a slot without a value.
    times: dict[str | None, float | str | None] = {}
    for slot in document.iterfind("TIME_ORDER/TIME_SLOT"):
        slot_id, value = slot.get("TIME_SLOT_ID"), slot.get("TIME_VALUE")
        if slot_id in times:
            reading.add_problem("repeated time slot", f"TIME_SLOT {slot_id!r} occurs twice", video_id)
        milliseconds = None if value is None else parse_number(value)
        times[slot_id] = milliseconds / 1000 if isinstance(milliseconds, float) else milliseconds
    for media in document.iterfind("HEADER/MEDIA_DESCRIPTOR"):
        if media.get("TIME_ORIGIN", "0") != "0":
            url, origin = media.get("MEDIA_URL"), media.get("TIME_ORIGIN")
            what = f"its times may differ from those of {url!r}, which has TIME_ORIGIN {origin!r}"
            reading.add_problem("moved media", what, video_id, severity="warning")
    for annotation in document.iterfind("TIER/ANNOTATION/ALIGNABLE_ANNOTATION"):
        start, end = (times.get(annotation.get(key)) for key in ("TIME_SLOT_REF1", "TIME_SLOT_REF2"))
        label = annotation.findtext("ANNOTATION_VALUE", "")
        if start is None or end is None:
            name = annotation.get("ANNOTATION_ID")
            what = f"annotation {name!r} ({label!r}) lacks a start or an end: align it in ELAN"
            reading.add_problem("unaligned annotation", what, video_id)
        else:
            reading.add_event(video_id, start, end, label)


def _new_document(video_id: str, events: tuple[Event, ...]) -> ElementTree.Element:
    document = ElementTree.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "esg_transformers",
            "DATE": datetime.now(UTC).isoformat(timespec="seconds"),
            "FORMAT": "3.0",
            "VERSION": "3.0",
            SCHEMA_LOCATION: SCHEMA,
        },
    )
    header = ElementTree.SubElement(document, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    media = f"./{video_id}.mp4"
    ElementTree.SubElement(
        header, "MEDIA_DESCRIPTOR", {"MEDIA_URL": media, "RELATIVE_MEDIA_URL": media, "MIME_TYPE": "video/mp4"}
    )
    time_order = ElementTree.SubElement(document, "TIME_ORDER")
    tiers: dict[str, tuple[ElementTree.Element, int]] = {}  # by name: the tier and the end of its last event in ms
    timed = sorted((*_milliseconds(event), event.label) for event in events)
    for number, (start, end, label) in enumerate(timed, start=1):
        name, copies = label, 1
        while name in tiers and tiers[name][1] > start:
            copies += 1
            name = f"{label} ({copies})"
        tier = tiers[name][0] if name in tiers else ElementTree.SubElement(document, "TIER", _tier(name))
        tiers[name] = tier, end
        slots = [f"ts{2 * number - 1}", f"ts{2 * number}"]
        for slot, value in zip(slots, (start, end), strict=True):
            ElementTree.SubElement(time_order, "TIME_SLOT", {"TIME_SLOT_ID": slot, "TIME_VALUE": str(value)})
        annotation = ElementTree.SubElement(
            ElementTree.SubElement(tier, "ANNOTATION"),
            "ALIGNABLE_ANNOTATION",
            {"ANNOTATION_ID": f"a{number}", "TIME_SLOT_REF1": slots[0], "TIME_SLOT_REF2": slots[1]},
        )
        ElementTree.SubElement(annotation, "ANNOTATION_VALUE").text = label
    ElementTree.SubElement(document, "LINGUISTIC_TYPE", {"LINGUISTIC_TYPE_ID": "event", "TIME_ALIGNABLE": "true"})
    return document


def _tier(name: str) -> dict[str, str]:
    return {"TIER_ID": name, "LINGUISTIC_TYPE_REF": "event"}


def _milliseconds(event: Event) -> tuple[int, int]:
    """Start and end in milliseconds, at least one apart; the start is moved back rather than the end past the video."""
    start = min(round(event.start * 1000), math.ceil(event.end * 1000) - 1)
    return start, max(round(event.end * 1000), start + 1)
