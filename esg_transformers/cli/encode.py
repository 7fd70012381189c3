"""Encode annotated videos into a corpus."""

import argparse
from typing import TypeVar

from esg_transformers.data.annotations import Annotations, read_unav_annotations
from esg_transformers.data.corpus import write_corpus
from esg_transformers.data.videos import VideoFolder
from esg_transformers.encoders.spectral import SpectralEncoder

T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--videos", required=True, metavar="DIR", help="folder of the videos, each named after its id")
    parser.add_argument("--annotations", required=True, metavar="FILE", help="in the layout of UnAV-100")
    parser.add_argument("--output", required=True, metavar="DIR", help="the corpus folder to make")
    parser.add_argument("--overwrite", action="store_true", help="replace a corpus that is there already")
    parser.add_argument("--num-workers", type=int, default=2, help="processes that encode (default: 2)")


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    annotations = read_unav_annotations(arguments.annotations)
    encode_corpus(annotations, arguments.videos, arguments.output, arguments.num_workers, arguments.overwrite)
    print(f"Wrote {len(annotations.videos)} videos to {arguments.output}.")


def encode_corpus(annotations: Annotations, videos: str, output: str, num_workers: int, overwrite: bool) -> None:
    """Encode the videos of all splits with the default encoder and write them as a corpus."""
    from torch.utils.data import DataLoader

    encoder = SpectralEncoder()
    splits = dict.fromkeys(video.split for video in annotations.videos.values())
    folders = {split: VideoFolder(annotations, videos, encoder, split) for split in splits}
    write_corpus(
        output,
        {
            split: DataLoader(folder, batch_size=None, collate_fn=_as_it_is, num_workers=num_workers)
            for split, folder in folders.items()
        },
        labels=annotations.labels,
        grid=encoder.grid,
        encoder={"name": encoder.name, "version": encoder.version},
        visual_size=encoder.visual_size,
        audio_size=encoder.audio_size,
        overwrite=overwrite,
    )


def _as_it_is(example: T) -> T:
    return example
