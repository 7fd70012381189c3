"""`esg-transformers corpus build`."""

import argparse
from functools import partial

from tqdm import tqdm

from esg_transformers.annotations.events import Annotations
from esg_transformers.annotations.formats import read_annotations
from esg_transformers.cli.sources import named_feature_set
from esg_transformers.corpora.feature_folder import FeatureFolder
from esg_transformers.corpora.video_folder import VideoFolder, video_files
from esg_transformers.corpora.writing import write_corpus
from esg_transformers.encoders import hub_encoder, spectral
from esg_transformers.encoders.encoder import AudioVisualEncoder
from esg_transformers.encoders.hub_encoder import HubEncoder
from esg_transformers.encoders.spectral import SpectralEncoder
from esg_transformers.media.container import probe
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    grid = FeatureGrid(*arguments.grid) if arguments.grid else None
    annotations = _annotations(arguments)
    splits = dict.fromkeys(video.split for video in annotations.videos.values())
    datasets: dict[str, VideoFolder | FeatureFolder]
    if arguments.videos:
        encoder = _encoder(arguments, grid)
        datasets = {split: VideoFolder(annotations, arguments.videos, encoder, split) for split in splits}
    else:
        feature_set = named_feature_set(arguments.feature_set)
        datasets = {split: FeatureFolder(annotations, arguments.features, feature_set, split, grid) for split in splits}
    source = next(iter(datasets.values()), None)
    if source is None:
        raise ValueError(f"{arguments.annotations} has no videos in it.")
    write_corpus(
        arguments.output,
        datasets,
        videos_per_shard=arguments.videos_per_shard,
        num_workers=arguments.num_workers,
        overwrite=arguments.overwrite,
    )
    print(f"Wrote {len(annotations.videos)} videos to {arguments.output}.")


def _encoder(arguments: argparse.Namespace, grid: FeatureGrid | None) -> AudioVisualEncoder:
    if arguments.encoder != "hub":
        return SpectralEncoder(grid or spectral.GRID)
    return HubEncoder(arguments.visual_model, arguments.audio_model, grid or hub_encoder.GRID)


def _annotations(arguments: argparse.Namespace) -> Annotations:
    """The annotations; durations that they do not say are those of the video files."""
    read = partial(
        read_annotations,
        arguments.annotations,
        arguments.annotation_format,
        frame_rate=arguments.annotation_frame_rate,
    )
    annotations = read()
    unknown = [video.video_id for video in annotations.videos.values() if video.duration is None]
    if not unknown or not arguments.videos:
        return annotations
    files = video_files(arguments.videos)
    there = [video_id for video_id in unknown if video_id in files]
    return read(durations={name: probe(files[name]).duration for name in tqdm(there, desc="Measuring", unit=" videos")})
