"""`esg-transformers annotations convert`."""

import argparse
from functools import partial

from tqdm.auto import tqdm
from transformers.utils import logging

from esg_transformers.annotations.formats import (
    format_for,
    read_annotations,
    scan_annotations,
    write_annotations,
)
from esg_transformers.corpora.video_folder import video_files
from esg_transformers.media.container import probe

logger = logging.get_logger(__name__)


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    target_format = arguments.target_format or format_for(arguments.output)
    label2id = read_annotations(arguments.labels).label2id if arguments.labels else None
    scan = partial(
        scan_annotations,
        arguments.input,
        arguments.annotation_format,
        label2id=label2id,
        split=arguments.split,
        frame_rate=arguments.frame_rate,
    )
    reading, annotations = scan()
    if arguments.videos:
        unknown = [video.video_id for video in annotations.videos.values() if video.duration is None]
        reading, annotations = scan(durations=_durations_of(unknown, arguments.videos))
    reading.raise_for_errors()
    write_annotations(annotations, arguments.output, target_format, frame_rate=arguments.frame_rate)
    num_events = sum(len(video.events) for video in annotations.videos.values())
    print(f"Wrote {num_events} events of {len(annotations.videos)} videos to {arguments.output} ({target_format}).")


def _durations_of(video_ids: list[str], videos_dir: str) -> dict[str, float]:
    """Durations, in seconds, of the videos that the folder has, by id."""
    present = video_files(videos_dir)
    missing = [video_id for video_id in video_ids if video_id not in present]
    if missing:
        logger.warning(
            f"{videos_dir} lacks {len(missing)} of {len(video_ids)} videos; their durations stay unknown: "
            f"{', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}."
        )
    with tqdm(
        [video_id for video_id in video_ids if video_id in present], desc="Measuring", unit=" videos"
    ) as progress:
        return {video_id: probe(present[video_id]).duration for video_id in progress}
