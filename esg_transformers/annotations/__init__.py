"""Events of videos, and the files that other tools keep them in: read, check and write them."""

from esg_transformers.annotations.events import AnnotatedVideo, Annotations, Event
from esg_transformers.annotations.formats import FORMATS, read_annotations, scan_annotations, write_annotations

__all__ = [
    "FORMATS",
    "AnnotatedVideo",
    "Annotations",
    "Event",
    "read_annotations",
    "scan_annotations",
    "write_annotations",
]
