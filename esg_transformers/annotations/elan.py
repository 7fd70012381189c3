"""ELAN: annotation documents in EAF 3.0, one a video."""

import math
import os
import re
from datetime import datetime, timezone
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
    """The annotations of ELAN: an `.eaf` file, or all those of a folder (EAF 3.0, EAFv3.0.xsd of the MPI).

    The video id is the name of the file without `.eaf`. Each annotation that has its own times, on any tier, is an
    event; its value is the label. Annotations that refer to others, and so have no times of their own, are left out,
    with a warning. A time slot without a value is legal in EAF and tells no time: an annotation that uses it is a
    problem. A document without annotations is a video without events. A video that ELAN's time line is moved against
    (`TIME_ORIGIN`) is warned of: times are those of the time line.

    Files are read as UTF-8, and without a document type: it is no part of EAF, and can make a small file huge or
    point to other files.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if a file has another layout altogether, or a folder has no `.eaf` file.
    """
    num_references = 0
    for path in files_to_read(reading.source, ".eaf"):
        document = _document(path)
        num_references += sum(1 for _ in document.iter("REF_ANNOTATION"))
        if reading.add_video(path.stem):
            _scan_document(reading, path.stem, document)
    if num_references:
        what = f"{num_references} annotations that refer to others are left out"
        reading.add_problem("references", what, severity="warning")
    return reading.annotations()


def write_elan(annotations: Annotations, path: str | os.PathLike) -> None:
    """Write documents that ELAN opens, one a video.

    A label is a tier; events of a label that overlap, which annotations of a tier must not, are on further ones. The
    video file is ID`.mp4`, beside the document. Times are rounded to whole milliseconds, and an event keeps one at
    least. Documents hold no scores, durations and splits.

    Args:
        annotations: videos and events.
        path: an `.eaf` file for one video, or a folder of `ID.eaf`; existing files are replaced, each in one step.

    Raises:
        FileNotFoundError: if the folder that `path` should be in does not exist.
        ValueError: if a file cannot be named after an id, or an id or a label has a character that XML has not.
    """
    for name in (*annotations.videos, *annotations.labels):
        if NOT_IN_XML.search(name):
            raise ValueError(f"{name!r} has a character that XML, and so an ELAN document, has no way to hold.")
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
            f"{path} has a document type (<!DOCTYPE ...>), which is no part of ELAN's files and is not read, since it "
            "can make a small file huge or point to other files. Open and save it in ELAN."
        )
    try:
        document = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"{path} is not an XML file: {error}.") from error
    if document.tag != "ANNOTATION_DOCUMENT":
        raise ValueError(f"{path} is not an ELAN file: its root is not <ANNOTATION_DOCUMENT>.")
    units = [header.get("TIME_UNITS", "milliseconds") for header in document.iterfind("HEADER")]
    if units != ["milliseconds"]:
        raise ValueError(f"{path} must have one <HEADER>, with times in milliseconds; they are in {units}.")
    return document


def _scan_document(reading: AnnotationReading, video_id: str, document: ElementTree.Element) -> None:
    times: dict[str | None, float | str | None] = {}  # seconds of aligned slots; what else was found of others
    for slot in document.iterfind("TIME_ORDER/TIME_SLOT"):
        slot_id, value = slot.get("TIME_SLOT_ID"), slot.get("TIME_VALUE")
        if slot_id in times:
            reading.add_problem("repeated time slot", f"TIME_SLOT {slot_id!r} is there twice", video_id)
        milliseconds = None if value is None else parse_number(value)
        times[slot_id] = milliseconds / 1000 if isinstance(milliseconds, float) else milliseconds
    for media in document.iterfind("HEADER/MEDIA_DESCRIPTOR"):
        if media.get("TIME_ORIGIN", "0") != "0":
            what = (
                f"its times may not be those of {media.get('MEDIA_URL')!r}, of TIME_ORIGIN {media.get('TIME_ORIGIN')!r}"
            )
            reading.add_problem("moved media", what, video_id, severity="warning")
    for annotation in document.iterfind("TIER/ANNOTATION/ALIGNABLE_ANNOTATION"):
        start, end = (times.get(annotation.get(key)) for key in ("TIME_SLOT_REF1", "TIME_SLOT_REF2"))
        label = annotation.findtext("ANNOTATION_VALUE", "")
        if start is None or end is None:
            what = f"annotation {annotation.get('ANNOTATION_ID')!r}, {label!r}, has no time at one of its ends"
            reading.add_problem("unaligned annotation", f"{what}: align it in ELAN", video_id)
        else:
            reading.add_event(video_id, start, end, label)


def _new_document(video_id: str, events: tuple[Event, ...]) -> ElementTree.Element:
    document = ElementTree.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "esg_transformers",
            "DATE": datetime.now(timezone.utc).isoformat(timespec="seconds"),
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
    tiers: dict[str, tuple[ElementTree.Element, int]] = {}  # by name, with the end of their last annotation in ms
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
    """Start and end that stay within the event's video, with one millisecond between them at the least."""
    start = min(round(event.start * 1000), math.ceil(event.end * 1000) - 1)
    return start, max(round(event.end * 1000), start + 1)
