"""Convert annotations or found events from one format to another."""

import argparse
from functools import partial

from tqdm.auto import tqdm
from transformers.utils import logging

from esg_transformers.annotations.formats import (
    FORMATS,
    format_for,
    read_annotations,
    scan_annotations,
    write_annotations,
)
from esg_transformers.cli.tables import check_folder_of
from esg_transformers.corpora.video_folder import video_files
from esg_transformers.media.video import probe

logger = logging.get_logger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    readable = [name for name, form in FORMATS.items() if form.scan is not None]
    parser.add_argument("input", metavar="IN", help="a file, or a folder of files of one video each")
    parser.add_argument(
        "output", metavar="OUT", help="a file, or a folder where the format has a file per video and there are several"
    )
    parser.add_argument(
        "--from",
        dest="source_format",
        choices=readable,
        metavar="FORMAT",
        help=f"the format of IN (default: by suffix and content): {', '.join(readable)}",
    )
    parser.add_argument(
        "--to",
        dest="target_format",
        choices=list(FORMATS),
        metavar="FORMAT",
        help=f"the format of OUT (default: by suffix; .json is unav): {', '.join(FORMATS)}",
    )
    parser.add_argument(
        "--frame-rate", type=float, metavar="FPS", help="frames per second, for a format that counts frames"
    )
    parser.add_argument(
        "--media", metavar="DIR", help="folder of the videos, each named after its id: measure what IN does not say"
    )
    parser.add_argument(
        "--split", default="train", metavar="NAME", help="the split of videos for which IN says none (default: train)"
    )
    parser.add_argument(
        "--labels", metavar="FILE", help="annotations whose classes these are: their ids are kept, others refused"
    )


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    target_format = arguments.target_format or format_for(arguments.output)
    check_folder_of(arguments.output)
    label2id = read_annotations(arguments.labels).label2id if arguments.labels else None
    scan = partial(
        scan_annotations,
        arguments.input,
        arguments.source_format,
        label2id=label2id,
        split=arguments.split,
        frame_rate=arguments.frame_rate,
    )
    reading, annotations = scan()
    if arguments.media:
        unknown = [video.video_id for video in annotations.videos.values() if video.duration is None]
        reading, annotations = scan(durations=_durations_of(unknown, arguments.media))
    reading.raise_for_errors()
    write_annotations(annotations, arguments.output, target_format, frame_rate=arguments.frame_rate)
    num_events = sum(len(video.events) for video in annotations.videos.values())
    print(f"Wrote {num_events} events of {len(annotations.videos)} videos to {arguments.output} ({target_format}).")


def _durations_of(video_ids: list[str], media_dir: str) -> dict[str, float]:
    """Seconds of the files `ID.mp4` and the like in a folder."""
    present = video_files(media_dir)
    missing = [video_id for video_id in video_ids if video_id not in present]
    if missing:
        logger.warning(
            f"{media_dir} lacks {len(missing)} of {len(video_ids)} videos, whose durations stay unknown: "
            f"{', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}."
        )
    with tqdm(
        [video_id for video_id in video_ids if video_id in present], desc="Measuring", unit=" videos"
    ) as progress:
        return {video_id: probe(present[video_id]).duration for video_id in progress}
