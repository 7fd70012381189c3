"""Media files: duration, streams, and decoded frames with their times. PyAV decodes, with its own FFmpeg.

All times are in seconds on one clock per file: 0 is where the first picture or sound starts.
"""

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Literal, cast, overload

import av
import numpy as np
from av.container import InputContainer
from transformers.utils import logging

logger = logging.get_logger(__name__)

MediaSource = str | os.PathLike[str] | bytes  # path of a media file (or a `MediaFile`), or its content
MediaStream = av.VideoStream | av.AudioStream

CLOCK_BREAK = 10  # seconds; a longer leap in a broadcast format is a clock reset (FFmpeg's -dts_delta_threshold)
LONGEST_PAUSE = 24 * 3600  # seconds; a longer leap, in any format, is damage


@dataclass(frozen=True)
class MediaInfo:
    """Duration and streams of a media file, as `probe` finds them.

    Args:
        duration (`float`): seconds from the first picture or sound to the end of the last.
        has_video (`bool`): True if there are moving pictures; cover art does not count.
        has_audio (`bool`): True if there is sound.
        width (`int`, *optional*): pixels as seen, rotation applied; `None` without pictures.
        height (`int`, *optional*): pixels as seen, rotation applied; `None` without pictures.
        frame_rate (`float`, *optional*): average pictures per second; `None` without pictures or if unknown.
        sampling_rate (`int`, *optional*): samples per second; `None` without sound.
    """

    duration: float
    has_video: bool
    has_audio: bool
    width: int | None
    height: int | None
    frame_rate: float | None
    sampling_rate: int | None


class MediaFile(os.PathLike[str]):
    """Path of a media file that is probed once, and whose waveform is kept when its sound is read.

    Every function that takes a path takes a `MediaFile` too, and so do encoders. Wrap a path where a file is used more
    than once: `probe` then reads the file on its first call only, and `waveform_peaks` needs no decoding of its own.

    Args:
        path (`str` or `os.PathLike`): the file.
        num_peaks (`int`): parts of the waveform that `read_sound` leaves in `peaks`; 0 for none.

    Attributes:
        info (`MediaInfo`): as `probe` finds it, on first use.
        peaks (`np.ndarray` of shape `(num_peaks, 2)`, float32, *optional*): least and greatest sample of each part, as
            of `waveform_peaks`. `None` until the sound has been read to its end.

    ```python
    file = MediaFile("clip.mp4", num_peaks=2000)
    features = encoder(file)  # probes the file and decodes each stream: one opening each
    file.info.duration, file.peaks  # no further opening
    ```
    """

    def __init__(self, path: str | os.PathLike[str], num_peaks: int = 0):
        self._path = os.fspath(path)
        self.num_peaks = num_peaks
        self.peaks: np.ndarray | None = None

    def __fspath__(self) -> str:
        return self._path

    def __str__(self) -> str:
        return self._path

    def __repr__(self) -> str:
        return f"MediaFile({self._path!r})"

    @cached_property
    def info(self) -> MediaInfo:
        """Duration and streams."""
        return _probe(self._path)


def probe(source: MediaSource) -> MediaInfo:
    """Duration and streams of a media file, measured on its data, not read from its header.

    The whole file is read, in one opening, and one frame of each stream is decoded: headers of truncated files and of
    live recordings name wrong durations. An empty stream counts as absent. So does one that cannot be decoded, with a
    warning.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if it is not a media file, or has neither pictures nor sound that can be decoded.
    """
    return source.info if isinstance(source, MediaFile) else _probe(source)


def _probe(source: MediaSource) -> MediaInfo:
    with open_media(source) as container:
        name = container.name
        video, audio = find_stream(container, "video"), find_stream(container, "audio")
        ends, frames = _ends_and_first_frames(container, [stream for stream in (video, audio) if stream is not None])
        frame_rate = video and (video.average_rate or video.guessed_rate)
    for kind in ends.keys() - frames.keys():
        logger.warning(f"{name}: its {kind} stream cannot be decoded and counts as absent.")
        del ends[kind]
    if not ends:
        raise ValueError(f"No pictures and no sound can be decoded in {name}. Check that the file is complete.")
    picture, sound = (frames[kind] if kind in ends else None for kind in ("video", "audio"))
    width, height = size_as_seen(picture) if isinstance(picture, av.VideoFrame) else (None, None)
    return MediaInfo(
        duration=max(ends.values()),
        has_video=picture is not None,
        has_audio=sound is not None,
        width=width,
        height=height,
        frame_rate=float(frame_rate) if picture is not None and frame_rate else None,
        sampling_rate=sound.sample_rate if isinstance(sound, av.AudioFrame) else None,
    )


def _ends_and_first_frames(
    container: InputContainer, streams: list[MediaStream]
) -> tuple[dict[str, float], dict[str, av.VideoFrame | av.AudioFrame]]:
    """By kind of stream: its end in seconds, if it has data, and its first frame, if it can be decoded."""
    origin = _clock_origin(container)
    ends: dict[str, float] = {}
    frames: dict[str, av.VideoFrame | av.AudioFrame] = {}
    damaged = dict.fromkeys((stream.type for stream in streams if stream.codec_context is not None), 0)
    for packet in _packets(container, streams):
        kind = packet.stream.type
        if packet.size:  # the last packet is empty; it flushes the decoder
            _, end = _span(packet, packet.stream, origin, ends.get(kind, 0.0))
            if end > 0:
                ends[kind] = max(end, ends.get(kind, 0.0))
        if kind in damaged and kind not in frames:
            try:
                decoded = _frames_of(packet)
            except av.error.FFmpegError:
                damaged[kind] += 1
            else:
                if decoded:
                    frames[kind] = decoded[0]
    for kind, num_packets in damaged.items():
        if num_packets and kind not in frames:
            _warn_of_damage(container, kind, num_packets)
    return ends, frames


@contextmanager
def open_media(source: MediaSource) -> Iterator[InputContainer]:
    """Open a media file for reading; `container.name` is its name for messages.

    Files from strangers may be opened: only the file itself is read. References to other files or to the network are
    not followed (playlists such as HLS, DASH or ffconcat, session descriptions, patterns of picture names).

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
            # FFmpeg gets the open file and no protocol to open others ("none" is no protocol). A tag that is not UTF-8
            # must not stop the reading.
            options = {"protocol_whitelist": "none"}
            container = av.open(_LenientFile(file, name), "r", options=options, metadata_errors="replace")
        except av.error.FFmpegError as error:
            raise ValueError(
                f"{name} cannot be read as video or sound: {error.strerror}. Is it a complete media file? "
                "Playlists are not followed."
            ) from error
        with container:
            yield container


class _LenientFile:
    """A file object for PyAV whose `seek` returns -1 on an error: damaged files ask for positions before the start."""

    def __init__(self, file: BinaryIO, name: str):
        self.read, self.tell, self._seek, self.name = file.read, file.tell, file.seek, name

    def seek(self, offset: int, whence: int) -> int:
        try:
            return self._seek(offset, whence)
        except (OSError, ValueError):  # of a file on disk; of bytes
            return -1


@overload
def find_stream(container: InputContainer, kind: Literal["video"]) -> av.VideoStream | None: ...
@overload
def find_stream(container: InputContainer, kind: Literal["audio"]) -> av.AudioStream | None: ...
def find_stream(container: InputContainer, kind: Literal["video", "audio"]) -> MediaStream | None:
    """The first stream of a kind (`"video"` or `"audio"`), preferably one with a known codec; cover art is ignored."""
    of_kind: Sequence[MediaStream] = container.streams.video if kind == "video" else container.streams.audio
    streams = [stream for stream in of_kind if not stream.disposition & av.stream.Disposition.attached_pic]
    return max(streams, key=lambda stream: stream.codec_context is not None, default=None)


@overload
def decode(container: InputContainer, stream: av.VideoStream) -> Iterator[tuple[float, float, av.VideoFrame]]: ...
@overload
def decode(container: InputContainer, stream: av.AudioStream) -> Iterator[tuple[float, float, av.AudioFrame]]: ...
def decode(
    container: InputContainer, stream: MediaStream
) -> Iterator[tuple[float, float, av.VideoFrame | av.AudioFrame]]:
    """Decoded frames as (start, end, frame), times in seconds. Damaged packets are skipped, with one warning."""
    if stream.codec_context is None:  # a codec that FFmpeg does not know
        return
    stream.codec_context.thread_type = "AUTO"
    origin = _clock_origin(container)
    end, damaged = 0.0, 0
    for packet in _packets(container, [stream]):
        try:
            frames = _frames_of(packet)
        except av.error.FFmpegError:
            damaged += 1
            continue
        for frame in frames:
            start, end = _span(frame, stream, origin, end)
            yield start, end, frame
    if damaged:
        _warn_of_damage(container, stream.type, damaged)


def _frames_of(packet: "av.Packet[MediaStream]") -> list[av.VideoFrame] | list[av.AudioFrame]:
    return cast("list[av.VideoFrame] | list[av.AudioFrame]", packet.decode())


def _warn_of_damage(container: InputContainer, kind: str, num_packets: int) -> None:
    logger.warning(f"{container.name}: {num_packets} damaged {kind} packets were left out.")


def _clock_origin(container: InputContainer) -> float:
    return (container.start_time or 0) / av.time_base


def _packets(container: InputContainer, streams: list[MediaStream]) -> Iterator["av.Packet[MediaStream]"]:
    """Packets of some streams, to the end of the file or to where it breaks off; the last of each stream is empty."""
    if not streams:  # PyAV would give the packets of all streams
        return
    try:
        yield from cast(Iterator["av.Packet[MediaStream]"], container.demux(streams))
    except IndexError:
        # PyAV 18.1 raises this, after all packets, if a stream was missing at the start (in transport streams).
        logger.debug(f"{container.name} has streams that begin later in the file; they are not read.")
    except av.error.FFmpegError as error:
        logger.warning(f"{container.name}: the data break off ({error.strerror}); the part before is used.")


def _span(
    item: "av.Packet[MediaStream] | av.VideoFrame | av.AudioFrame", stream: MediaStream, origin: float, following: float
) -> tuple[float, float]:
    """(start, end) in seconds of a packet or frame; if it has no time, as in raw H.264, it starts at `following`."""
    ticks = item.dts if item.pts is None else item.pts
    time_base = item.time_base or Fraction(0)
    start = following if ticks is None else float(ticks * time_base) - origin
    is_broadcast = bool(stream.container.format.flags & cast(int, av.format.Flags.ts_discont.value))
    longest = CLOCK_BREAK if is_broadcast else LONGEST_PAUSE
    if abs(start - following) > longest:
        start = following
    if item.duration and 0 < item.duration * time_base <= longest:
        return start, start + float(item.duration * time_base)
    frame_rate = stream.type == "video" and (stream.average_rate or stream.guessed_rate)
    return start, start + float(1 / frame_rate if frame_rate else 0)


def size_as_seen(frame: av.VideoFrame) -> tuple[int, int]:
    """(width, height) of a picture in pixels, rotation applied."""
    return (frame.height, frame.width) if round(frame.rotation / 90) % 2 else (frame.width, frame.height)
