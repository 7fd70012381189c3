"""Build a corpus from feature files or videos, with their annotations. When interrupted, run it again to go on."""

import argparse
from functools import partial

from tqdm import tqdm

from esg_transformers.annotations.events import Annotations
from esg_transformers.annotations.formats import FORMATS, read_annotations
from esg_transformers.cli.sources import add_feature_set_argument, named_feature_set
from esg_transformers.corpora.feature_folder import FeatureFolder
from esg_transformers.corpora.video_folder import VideoFolder, video_files
from esg_transformers.corpora.writing import write_corpus
from esg_transformers.encoders import hub_encoder, spectral
from esg_transformers.encoders.encoder import AudioVisualEncoder
from esg_transformers.encoders.hub_encoder import HubEncoder
from esg_transformers.encoders.spectral import SpectralEncoder
from esg_transformers.media.video import probe
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid

_READABLE = [name for name, format in FORMATS.items() if format.scan is not None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    source = parser.add_argument_group("what it is made from", "Give --videos, or --features and --feature-set.")
    source.add_argument("--videos", metavar="DIR", help="folder of the videos, each named after its id")
    source.add_argument("--features", metavar="DIR", help="folder of .npy feature files")
    add_feature_set_argument(source)
    source.add_argument("--encoder", choices=["spectral", "hub"], help="what encodes the videos (default: spectral)")
    for stream, kind in (("visual", "an image or video"), ("audio", "an audio")):
        source.add_argument(
            f"--{stream}-model",
            metavar="DIR_OR_REPO",
            help=f"with --encoder hub: {kind} model of transformers, as a folder or a repository OWNER/NAME of the Hub",
        )
    source.add_argument(
        "--grid",
        type=grid_of,
        metavar="FRAME_RATE,STRIDE,WINDOW",
        help="frames per second, and frames; videos are encoded on it, feature files resampled to it",
    )
    annotations = parser.add_argument_group("what happens in them")
    annotations.add_argument("--annotations", required=True, metavar="FILE", help="the true events, in any format")
    annotations.add_argument("--annotation-format", choices=_READABLE, help="by default told by the suffix")
    annotations.add_argument(
        "--annotation-frame-rate", type=float, metavar="HZ", help="frames per second, where the format counts frames"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="the corpus folder to make")
    parser.add_argument("--overwrite", action="store_true", help="replace a corpus that is there already")
    parser.add_argument(
        "--videos-per-shard", type=int, default=128, metavar="N", help="videos of a file (default: 128)"
    )
    parser.add_argument("--num-workers", type=int, default=2, metavar="N", help="processes that build (default: 2)")


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    given = [bool(option) for option in (arguments.videos, arguments.features, arguments.feature_set)]
    if given not in ([True, False, False], [False, True, True]):
        raise ValueError("Give either --videos, or both of --features and --feature-set.")
    if (arguments.visual_model or arguments.audio_model) and arguments.encoder != "hub":
        raise ValueError("--visual-model and --audio-model go with --encoder hub.")
    if arguments.features and arguments.encoder:
        raise ValueError("--encoder goes with --videos: feature files are encoded already.")
    annotations = _annotations(arguments)
    splits = dict.fromkeys(video.split for video in annotations.videos.values())
    datasets: dict[str, VideoFolder | FeatureFolder]
    if arguments.videos:
        encoder = _encoder(arguments)
        datasets = {split: VideoFolder(annotations, arguments.videos, encoder, split) for split in splits}
    else:
        feature_set = named_feature_set(arguments.feature_set)
        datasets = {
            split: FeatureFolder(annotations, arguments.features, feature_set, split, arguments.grid)
            for split in splits
        }
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


def grid_of(text: str) -> FeatureGrid:
    """The grid that `FRAME_RATE,STRIDE,WINDOW` names.

    >>> grid_of("25,8,24")
    FeatureGrid(frame_rate=25.0, stride=8, window=24)
    """
    try:
        frame_rate, stride, window = text.split(",")
        return FeatureGrid(float(frame_rate), int(stride), int(window))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a grid such as 25,8,24: {error}") from error


def _encoder(arguments: argparse.Namespace) -> AudioVisualEncoder:
    if arguments.encoder != "hub":
        return SpectralEncoder(arguments.grid or spectral.GRID)
    if not (arguments.visual_model or arguments.audio_model):
        raise ValueError("--encoder hub needs --visual-model, --audio-model, or both.")
    return HubEncoder(arguments.visual_model, arguments.audio_model, arguments.grid or hub_encoder.GRID)


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
