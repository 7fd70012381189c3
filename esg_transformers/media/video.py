"""Pictures from a media file, and what the file holds. Decoding is PyAV's, which brings its own FFmpeg.

Every time here is on one clock, which reads 0 where the file starts to play, in pictures or in sound.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from transformers.utils import logging

logger = logging.get_logger(__name__)

CLOCK_TOLERANCE = 0.5e-3  # seconds; Matroska writes times in whole milliseconds
CLOCK_BREAK = 10  # seconds; a leap this long in a broadcast format is a clock set anew (FFmpeg's -dts_delta_threshold)


@dataclass(frozen=True)
class MediaInfo:
    """What a media file holds.

    Args:
        duration (`float`): seconds from the first picture or sound to the end of the last.
        has_video (`bool`): whether there are moving pictures; cover art does not count.
        has_audio (`bool`): whether there is sound.
        width (`int`, *optional*): pixels as seen, rotation applied; `None` without pictures.
        height (`int`, *optional*): pixels as seen, rotation applied; `None` without pictures.
        frame_rate (`float`, *optional*): pictures per second on average; `None` without pictures or where unknown.
        sampling_rate (`int`, *optional*): samples per second; `None` without sound.
    """

    duration: float
    has_video: bool
    has_audio: bool
    width: int | None
    height: int | None
    frame_rate: float | None
    sampling_rate: int | None


def probe(path: str | os.PathLike) -> MediaInfo:
    """What a media file holds, from its data and not from its header.

    The whole file is read, though only one picture is decoded: headers of truncated files and of live recordings name
    durations that are not there. A stream with nothing in it counts as absent.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if it is not a media file, has neither pictures nor sound, or lasts no time.
    """
    with open_media(path) as container:
        video, audio = find_stream(container, "video"), find_stream(container, "audio")
        origin = _clock_origin(container)
        streams = [stream for stream in (video, audio) if stream is not None]
        ends: dict[str, float] = {}  # seconds, for the streams that have data
        for packet in _packets(container, streams):
            if not packet.size:  # the signal to flush a decoder
                continue
            kind = packet.stream.type
            _, end = _span(packet, packet.stream, origin, ends.get(kind, 0.0))
            ends[kind] = max(end, ends.get(kind, 0.0))
        frame_rate = video and (video.average_rate or video.guessed_rate)
        sampling_rate = audio and audio.rate
    if not ends:
        raise ValueError(f"{path} has neither pictures nor sound. Check that the file is complete.")
    if max(ends.values()) <= 0:
        raise ValueError(f"{path} lasts no time. Check that the file is complete.")
    has_video, has_audio = "video" in ends, "audio" in ends
    height, width = next(read_frames(path, frame_rate=1.0)).shape[:2] if has_video else (None, None)
    return MediaInfo(
        duration=max(ends.values()),
        has_video=has_video,
        has_audio=has_audio,
        width=width,
        height=height,
        frame_rate=float(frame_rate) if has_video and frame_rate else None,
        sampling_rate=sampling_rate if has_audio else None,
    )


def read_frames(
    path: str | os.PathLike, frame_rate: float, size: tuple[int, int] | None = None
) -> Iterator[np.ndarray]:
    """Pictures of a video at a constant rate, one after another.

    Picture `n` is the one that a player shows at `n / frame_rate` seconds, whatever the frame rate of the file, even a
    variable one. Where sound comes before the first picture, the first picture stands for that time too.

    Args:
        path: a media file.
        frame_rate: pictures per second to give, > 0.
        size: (width, height) of the pictures in pixels; by default that of the first picture as seen, rotation applied.

    Yields:
        uint8 `(H, W, 3)`, RGB. One array may be given several times in a row; copy it before writing to it.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if it is not a media file, or if it has no picture that decodes. As this is a generator, errors come
            when the first picture is asked for.
    """
    if not frame_rate > 0:
        raise ValueError(f"`frame_rate` is {frame_rate}; pictures per second must be above 0.")
    with open_media(path) as container:
        stream = find_stream(container, "video")
        if stream is None:
            raise ValueError(f"{path} has no video stream. `probe` tells what a file holds.")
        reformatter = av.video.reformatter.VideoReformatter()  # one for all frames, as each sets up its scaler anew
        count = 0
        for frame, end in _until_next(decode(container, stream)):
            if count / frame_rate + CLOCK_TOLERANCE >= end:
                continue
            size = size or _size_as_seen(frame)
            quarter_turns = round(frame.rotation / 90) % 4  # counterclockwise
            width, height = size[::-1] if quarter_turns % 2 else size
            picture = reformatter.reformat(frame, width, height, "rgb24", interpolation="AREA").to_ndarray()
            picture = np.ascontiguousarray(np.rot90(picture, quarter_turns))
            while count / frame_rate + CLOCK_TOLERANCE < end:
                yield picture
                count += 1
        if count == 0:
            raise ValueError(f"{path} has no picture that can be decoded. Check that the file is complete.")


@contextmanager
def open_media(path: str | os.PathLike) -> Iterator[av.container.InputContainer]:
    """A media file, open for reading, with its errors put plainly.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if it is not a file, or not a media file that FFmpeg knows.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}.")
    if not path.is_file():
        raise ValueError(f"{path} is not a file. Give the path of one video or sound file.")
    try:
        # A playlist must not reach the network, and a tag that is not UTF-8 must not stop the reading. The absolute
        # path keeps FFmpeg from taking a name such as "http:clip.mp4" for an address.
        container = av.open(str(path.resolve()), options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise ValueError(
            f"{path} cannot be read as video or sound: {error.strerror}. Is it a complete media file?"
        ) from error
    with container:
        yield container


def find_stream(container: av.container.InputContainer, kind: str) -> av.stream.Stream | None:
    """The first stream of a kind (`"video"` or `"audio"`) that can be decoded; cover art does not count as video."""
    for stream in container.streams:
        is_cover = bool(stream.disposition & av.stream.Disposition.attached_pic)
        if stream.type == kind and stream.codec_context is not None and not is_cover:
            return stream
    return None


def decode(
    container: av.container.InputContainer, stream: av.stream.Stream
) -> Iterator[tuple[float, float, av.frame.Frame]]:
    """(start, end, frame) of all that decodes, times in seconds; damaged packets are left out, with one warning."""
    stream.thread_type = "AUTO"
    origin = _clock_origin(container)
    end, damaged = 0.0, 0
    for packet in _packets(container, [stream]):
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            damaged += 1
            continue
        for frame in frames:
            start, end = _span(frame, stream, origin, end)
            yield start, end, frame
    if damaged:
        logger.warning(f"{container.name}: {damaged} damaged {stream.type} packets were left out.")


def _clock_origin(container: av.container.InputContainer) -> float:
    return (container.start_time or 0) / av.time_base


def _packets(container: av.container.InputContainer, streams: list[av.stream.Stream]) -> Iterator[av.Packet]:
    """Packets of some streams, up to the end of the file or to where it breaks off; each stream's last is empty."""
    if not streams:  # PyAV would give the packets of all
        return
    try:
        yield from container.demux(streams)
    except IndexError:
        # PyAV 18.1 trips, after all packets, over a stream that was not there at the start (as in transport streams).
        logger.debug(f"{container.name} has streams that first appear on the way; they are not read.")
    except av.error.FFmpegError as error:
        logger.warning(f"{container.name} breaks off ({error.strerror}); what comes before is used.")


def _span(
    item: av.Packet | av.frame.Frame, stream: av.stream.Stream, origin: float, following: float
) -> tuple[float, float]:
    """(start, end) in seconds of a packet or frame; without a time, as in raw H.264, it follows on the one before."""
    ticks = item.dts if item.pts is None else item.pts
    start = following if ticks is None else float(ticks * item.time_base) - origin
    is_broadcast = bool(stream.container.format.flags & av.format.Flags.ts_discont.value)
    if is_broadcast and abs(start - following) > CLOCK_BREAK:
        start = following
    if item.duration:
        return start, start + float(item.duration * item.time_base)
    frame_rate = stream.type == "video" and (stream.average_rate or stream.guessed_rate)
    return start, start + float(1 / frame_rate if frame_rate else 0)


def _until_next(
    frames: Iterable[tuple[float, float, av.VideoFrame]],
) -> Iterator[tuple[av.VideoFrame, float]]:
    """Each frame with the second until which it is shown: the start of the next one, or its own end for the last."""
    shown, shown_until = None, 0.0
    for start, end, frame in frames:
        if shown is not None:
            yield shown, start
        shown, shown_until = frame, end
    if shown is not None:
        yield shown, shown_until


def _size_as_seen(frame: av.VideoFrame) -> tuple[int, int]:
    return (frame.height, frame.width) if round(frame.rotation / 90) % 2 else (frame.width, frame.height)
