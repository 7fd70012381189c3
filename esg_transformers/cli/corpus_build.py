"""`esg-transformers corpus build`."""

import argparse
from functools import partial

from tqdm import tqdm

from esg_transformers.annotations.events import Annotations
from esg_transformers.annotations.formats import read_annotations
from esg_transformers.cli.devices import device_of
from esg_transformers.cli.encoders import open_encoder
from esg_transformers.cli.sources import named_feature_set
from esg_transformers.corpora.feature_folder import FeatureFolder
from esg_transformers.corpora.video_folder import VideoFolder, video_files
from esg_transformers.corpora.writing import write_corpus
from esg_transformers.media.container import probe
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    grid = FeatureGrid(*arguments.grid) if arguments.grid else None
    annotations = _annotations(arguments)
    splits = dict.fromkeys(video.split for video in annotations.videos.values())
    datasets: dict[str, VideoFolder | FeatureFolder]
    if arguments.videos:
        device = device_of(arguments.device)
        encoder = open_encoder(arguments, grid, device)
        datasets = {split: VideoFolder(annotations, arguments.videos, encoder, split) for split in splits}
    else:
        feature_set = named_feature_set(arguments.feature_set)
        datasets = {split: FeatureFolder(annotations, arguments.features, feature_set, split, grid) for split in splits}
    source = next(iter(datasets.values()), None)
    if source is None:
        raise ValueError(f"{arguments.annotations} lists no videos.")
    write_corpus(
        arguments.output,
        datasets,
        videos_per_shard=arguments.videos_per_shard,
        num_workers=_num_workers(arguments),
        overwrite=arguments.overwrite,
    )
    print(f"Wrote {len(annotations.videos)} videos to {arguments.output}.")


def _num_workers(arguments: argparse.Namespace) -> int:
    """Worker processes: by default 2, or 0 if networks run on another device than the CPU."""
    if arguments.num_workers is not None:
        return int(arguments.num_workers)
    return 2 if arguments.device in (None, "cpu") else 0


def _annotations(arguments: argparse.Namespace) -> Annotations:
    """The annotations, with missing durations measured from the video files."""
    read = partial(
        read_annotations,
        arguments.annotations,
        arguments.annotation_format,
        frame_rate=arguments.frame_rate,
    )
    annotations = read()
    unknown = [video.video_id for video in annotations.videos.values() if video.duration is None]
    if not unknown or not arguments.videos:
        return annotations
    files = video_files(arguments.videos)
    there = [video_id for video_id in unknown if video_id in files]
    return read(durations={name: probe(files[name]).duration for name in tqdm(there, desc="Measuring", unit=" videos")})
