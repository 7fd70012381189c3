"""Pictures of a media file, at a constant rate."""

from collections.abc import Iterable, Iterator

import av
import numpy as np

from esg_transformers.media.container import MediaSource, decode, find_stream, open_media, size_as_seen

CLOCK_TOLERANCE = 0.5e-3  # seconds; Matroska writes times in whole milliseconds


def read_frames(source: MediaSource, frame_rate: float, size: tuple[int, int] | None = None) -> Iterator[np.ndarray]:
    """Generator of the pictures of a video at a constant rate.

    Picture `n` is the one that a player shows at `n / frame_rate` seconds, whatever the frame rate of the file, even if
    it varies. If sound starts before the first picture, the first picture fills that time.

    Args:
        source: path of a media file, or its content.
        frame_rate: pictures per second to yield, > 0.
        size: (width, height) of the pictures in pixels; by default that of the first picture as seen, rotation applied.

    Yields:
        uint8 `(H, W, 3)`, RGB. The same array may be yielded several times in a row; copy it before writing to it.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if it is not a media file, or no picture can be decoded. Raised when the first picture is asked for.
    """
    if not frame_rate > 0:
        raise ValueError(f"`frame_rate` is {frame_rate}; pictures per second must be above 0.")
    with open_media(source) as container:
        stream = find_stream(container, "video")
        if stream is None:
            raise ValueError(f"There is no video stream in {container.name}. `probe` lists the streams of a file.")
        reformatter = av.video.reformatter.VideoReformatter()  # one for all frames, as each sets up its scaler anew
        count = 0
        for frame, end in _until_next(decode(container, stream)):
            if count / frame_rate + CLOCK_TOLERANCE >= end:
                continue
            size = size or size_as_seen(frame)
            quarter_turns = round(frame.rotation / 90) % 4  # counterclockwise
            width, height = size[::-1] if quarter_turns % 2 else size
            stored = reformatter.reformat(frame, width, height, "rgb24", interpolation="AREA").to_ndarray()
            picture = np.ascontiguousarray(np.rot90(stored, quarter_turns))
            while count / frame_rate + CLOCK_TOLERANCE < end:
                yield picture
                count += 1
        if count == 0:
            raise ValueError(f"No picture can be decoded in {container.name}. Check that the file is complete.")


def _until_next(
    frames: Iterable[tuple[float, float, av.VideoFrame]],
) -> Iterator[tuple[av.VideoFrame, float]]:
    """Each frame with the time in seconds at which its display ends: the start of the next, or its own end if last."""
    shown, shown_until = None, 0.0
    for start, end, frame in frames:
        if shown is not None:
            yield shown, start
        shown, shown_until = frame, end
    if shown is not None:
        yield shown, shown_until
