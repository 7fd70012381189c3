"""Pictures from a media file, and what the file holds. Decoding is PyAV's, which brings its own FFmpeg.

Every time here is on one clock, which reads 0 where the file starts to play, in pictures or in sound.
"""

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from transformers.utils import logging

logger = logging.get_logger(__name__)

MediaSource = str | os.PathLike | bytes  # the path of a media file, or all its bytes

CLOCK_TOLERANCE = 0.5e-3  # seconds; Matroska writes times in whole milliseconds
CLOCK_BREAK = 10  # seconds; a leap this long in a broadcast format is a clock set anew (FFmpeg's -dts_delta_threshold)
LONGEST_PAUSE = 24 * 3600  # seconds; a longer leap, in any format, is damage


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


def probe(source: MediaSource) -> MediaInfo:
    """What a media file holds, from its data and not from its header.

    The whole file is read, though of each stream only one frame is decoded: headers of truncated files and of live
    recordings name durations that are not there. A stream with nothing in it counts as absent, and so does, with a
    warning, one that cannot be decoded.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if it is not a media file, or has neither pictures nor sound that decode.
    """
    with open_media(source) as container:
        name = container.name
        video, audio = find_stream(container, "video"), find_stream(container, "audio")
        origin = _clock_origin(container)
        streams = [stream for stream in (video, audio) if stream is not None]
        ends: dict[str, float] = {}  # seconds, for the streams that have data
        for packet in _packets(container, streams):
            if not packet.size:  # the signal to flush a decoder
                continue
            kind = packet.stream.type
            _, end = _span(packet, packet.stream, origin, ends.get(kind, 0.0))
            if end > 0:
                ends[kind] = max(end, ends.get(kind, 0.0))
        frame_rate = video and (video.average_rate or video.guessed_rate)
    frames: dict[str, av.frame.Frame] = {}  # the first of each stream
    for kind in list(ends):
        with open_media(source) as container:
            frame = next((frame for _, _, frame in decode(container, find_stream(container, kind))), None)
        if frame is None:
            logger.warning(f"{name}: its {kind} stream cannot be decoded and counts as absent.")
            del ends[kind]
        else:
            frames[kind] = frame
    if not ends:
        raise ValueError(f"No pictures and no sound can be decoded in {name}. Check that the file is complete.")
    picture, sound = frames.get("video"), frames.get("audio")
    width, height = (None, None) if picture is None else _size_as_seen(picture)
    return MediaInfo(
        duration=max(ends.values()),
        has_video=picture is not None,
        has_audio=sound is not None,
        width=width,
        height=height,
        frame_rate=float(frame_rate) if picture is not None and frame_rate else None,
        sampling_rate=None if sound is None else sound.sample_rate,
    )


def read_frames(source: MediaSource, frame_rate: float, size: tuple[int, int] | None = None) -> Iterator[np.ndarray]:
    """Pictures of a video at a constant rate, one after another.

    Picture `n` is the one that a player shows at `n / frame_rate` seconds, whatever the frame rate of the file, even a
    variable one. Where sound comes before the first picture, the first picture stands for that time too.

    Args:
        source: the path of a media file, or its bytes.
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
    with open_media(source) as container:
        stream = find_stream(container, "video")
        if stream is None:
            raise ValueError(f"There is no video stream in {container.name}. `probe` tells what a file holds.")
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
            raise ValueError(f"No picture can be decoded in {container.name}. Check that the file is complete.")


@contextmanager
def open_media(source: MediaSource) -> Iterator[av.container.InputContainer]:
    """A media file, open for reading, with its errors put plainly; `container.name` names it in messages.

    Nothing but the file itself is read. What refers to other files or to the network (playlists as of HLS, DASH or
    ffconcat, session descriptions, patterns of picture names) is not followed, so files from strangers may be opened.

    Raises:
        FileNotFoundError: if there is no file.
        OSError: if the file may not be read.
        ValueError: if it is not a file, or not a media file that FFmpeg knows.
    """
    file: BinaryIO
    if isinstance(source, bytes):
        file, name = io.BytesIO(source), "the given bytes"
    else:
        path = Path(source)
        if not path.exists():
            raise FileNotFoundError(f"There is no file {path}.")
        if not path.is_file():
            raise ValueError(f"{path} is not a file. Give the path of one video or sound file.")
        file, name = path.open("rb"), str(path)
    with file:
        try:
            # FFmpeg is given the open file and no protocol (there is none called "none") to open another one by. A
            # tag that is not UTF-8 must not stop the reading.
            options = {"protocol_whitelist": "none"}
            container = av.open(_LenientFile(file, name), options=options, metadata_errors="replace")
        except av.error.FFmpegError as error:
            raise ValueError(
                f"{name} cannot be read as video or sound: {error.strerror}. Is it a complete media file? "
                "Playlists are not followed."
            ) from error
        with container:
            yield container


class _LenientFile:
    """A file as PyAV reads it; a damaged file may send it to a place before the beginning, which FFmpeg can handle."""

    def __init__(self, file: BinaryIO, name: str):
        self.read, self.tell, self._seek, self.name = file.read, file.tell, file.seek, name

    def seek(self, offset: int, whence: int) -> int:
        try:
            return self._seek(offset, whence)
        except (OSError, ValueError):  # of a file on disk; of bytes
            return -1


def find_stream(container: av.container.InputContainer, kind: str) -> av.stream.Stream | None:
    """The first stream of a kind (`"video"` or `"audio"`), one with a known codec if any has; cover art is no video."""
    streams = [
        stream
        for stream in container.streams
        if stream.type == kind and not stream.disposition & av.stream.Disposition.attached_pic
    ]
    return max(streams, key=lambda stream: stream.codec_context is not None, default=None)


def decode(
    container: av.container.InputContainer, stream: av.stream.Stream
) -> Iterator[tuple[float, float, av.frame.Frame]]:
    """(start, end, frame) of all that decodes, times in seconds; damaged packets are left out, with one warning."""
    if stream.codec_context is None:  # a codec that FFmpeg does not know
        return
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
        logger.warning(f"{container.name}: the data break off ({error.strerror}); what comes before is used.")


def _span(
    item: av.Packet | av.frame.Frame, stream: av.stream.Stream, origin: float, following: float
) -> tuple[float, float]:
    """(start, end) in seconds of a packet or frame; without a time, as in raw H.264, it follows on the one before."""
    ticks = item.dts if item.pts is None else item.pts
    start = following if ticks is None else float(ticks * item.time_base) - origin
    is_broadcast = bool(stream.container.format.flags & av.format.Flags.ts_discont.value)
    longest = CLOCK_BREAK if is_broadcast else LONGEST_PAUSE
    if abs(start - following) > longest:
        start = following
    if item.duration and 0 < item.duration * item.time_base <= longest:
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
