import socket
import tracemalloc
from fractions import Fraction

import av
import numpy as np
import pytest
from transformers.utils import logging

from esg_transformers.media.container import probe
from esg_transformers.media.video import read_frames


def write_video(path, pictures, milliseconds, codec="ffv1", pix_fmt="bgr0", **options):
    """`pictures`, uint8 (H, W, 3), each shown from its time on. FFV1 in bgr0 is lossless."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = Fraction(1, 1000)
        for picture, time in zip(pictures, milliseconds, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_h264(path, pictures, **options):
    return write_video(path, pictures, range(0, 40 * len(pictures), 40), "libx264", "yuv420p", **options)


def write_sound(path, codec="pcm_s16le"):
    """One second of silence at 8 kHz."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def grey(*levels, height=32, width=48):
    return [np.full((height, width, 3), level, np.uint8) for level in levels]


def noise(num_frames, height=48, width=64):
    return list(np.random.default_rng(0).integers(0, 255, (num_frames, height, width, 3), np.uint8))


def levels(path, frame_rate):
    return [int(picture.mean()) for picture in read_frames(path, frame_rate)]


def test_pictures_at_the_rate_of_the_file_are_its_frames_unchanged(tmp_path):
    pictures = noise(5)
    path = write_video(tmp_path / "v.mkv", pictures, range(0, 200, 40))
    np.testing.assert_array_equal(list(read_frames(path, 25)), pictures)


def test_a_picture_of_a_variable_rate_video_is_the_one_on_screen_at_its_time(tmp_path):
    path = write_video(tmp_path / "v.mkv", grey(10, 20, 30, 40), [0, 100, 150, 700])
    # On screen at 0, 0.1, 0.2, ..., 0.7 s; the last frame lasts 1 / 25 s.
    assert levels(path, 10) == [10, 20, 30, 30, 30, 30, 30, 40]


def test_a_slow_video_repeats_its_frames(tmp_path):
    path = write_video(tmp_path / "v.mkv", grey(10, 20, 30), [0, 300, 600])
    assert levels(path, 10) == [10, 10, 10, 20, 20, 20, 30]


def test_frame_times_rounded_to_milliseconds_do_not_shift_a_picture(tmp_path):
    # 30 frames/s: the third frame, at 66.67 ms, is written as 67 ms, and still is the picture at 2 / 30 s.
    path = write_video(tmp_path / "v.mkv", grey(10, 20, 30, 40), [0, 33, 67, 100])
    assert levels(path, 30)[:4] == [10, 20, 30, 40]


def test_the_clock_of_a_transport_stream_starts_at_its_first_picture(tmp_path):
    # MPEG-TS starts its timestamps at 1.4 s or so.
    path = write_h264(tmp_path / "v.ts", grey(40, 80, 120, 160))
    assert probe(path).duration == pytest.approx(0.16, abs=1e-3)
    np.testing.assert_allclose(levels(path, 25), [40, 80, 120, 160], atol=3)


def test_a_stream_without_times_is_read_at_its_own_rate(tmp_path):
    path = write_h264(tmp_path / "v.h264", grey(40, 80, 120, 160, 200))
    assert probe(path).duration == pytest.approx(0.2)
    np.testing.assert_allclose(levels(path, 25), [40, 80, 120, 160, 200], atol=3)


def test_a_clock_set_anew_in_a_recording_makes_it_no_longer(tmp_path):
    milliseconds = [*range(0, 1000, 40), *range(5_000_000, 5_001_000, 40)]
    path = write_video(tmp_path / "v.ts", grey(*[100] * 25, *[200] * 25), milliseconds, "libx264", "yuv420p")
    assert probe(path).duration == pytest.approx(2, abs=0.1)
    np.testing.assert_allclose(levels(path, 10), [100] * 10 + [200] * 10, atol=3)


def test_pictures_of_odd_size_and_at_a_given_size(tmp_path):
    left_red = np.zeros((35, 51, 3), np.uint8)
    left_red[:, :25, 0] = 200
    path = write_video(tmp_path / "v.mkv", [left_red], [0])
    np.testing.assert_array_equal(next(read_frames(path, 25)), left_red)
    small = next(read_frames(path, 25, size=(10, 6)))
    assert small.shape == (6, 10, 3)
    assert small[:, :4, 0].min() > 190
    assert small[:, 6:].max() < 10


@pytest.mark.parametrize(
    ("matrix", "shape", "red"),
    [
        ([0, 1, -1, 0], (64, 32), np.s_[:28, :]),  # a quarter turn clockwise: what was left is on top
        ([-1, 0, 0, -1], (32, 64), np.s_[:, 36:]),
        ([0, -1, 1, 0], (64, 32), np.s_[36:, :]),
    ],
    ids=["90", "180", "270"],
)
def test_a_video_that_is_to_be_turned_is_turned(tmp_path, matrix, shape, red):
    left_red = np.zeros((32, 64, 3), np.uint8)
    left_red[:, :32, 0] = 200
    path = write_h264(tmp_path / "v.mp4", [left_red] * 3)
    # The matrix of the track header (ISO/IEC 14496-12, 8.3.2), 40 bytes after the name, row by row.
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44
    rows = [*matrix[:2], 0, *matrix[2:], 0, 0, 0, 0x4000]
    data[start : start + 36] = b"".join((value << 16).to_bytes(4, "big", signed=True) for value in rows)
    path.write_bytes(data)
    assert (probe(path).height, probe(path).width) == shape
    picture = next(read_frames(path, 25))
    assert picture.shape == (*shape, 3)
    assert picture[red][..., 0].min() > 150
    assert picture[..., 0].mean() == pytest.approx(100, abs=10)  # half of it is red
    assert next(read_frames(path, 25, size=(8, 20))).shape == (20, 8, 3)


def test_pictures_are_not_kept_in_memory(tmp_path):
    pictures = noise(20, 96, 128) * 4
    path = write_h264(tmp_path / "v.mp4", pictures)
    tracemalloc.start()
    assert sum(1 for _ in read_frames(path, 25)) == 80
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * pictures[0].nbytes


def test_probe_tells_what_a_video_holds(tmp_path):
    info = probe(write_h264(tmp_path / "v.mp4", grey(*[100] * 50)))
    assert (info.has_video, info.has_audio, info.sampling_rate) == (True, False, None)
    assert (info.width, info.height, info.frame_rate) == (48, 32, 25.0)
    assert info.duration == pytest.approx(2.0)


def test_probe_tells_what_a_sound_file_holds(tmp_path):
    info = probe(write_sound(tmp_path / "s.wav"))
    assert (info.has_video, info.width, info.height, info.frame_rate) == (False, None, None, None)
    assert (info.has_audio, info.sampling_rate, info.duration) == (True, 8000, 1.0)


def test_cover_art_is_no_video(tmp_path):
    path = tmp_path / "song.mp3"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("mp3", rate=44100, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic.value
        container.mux(cover.encode(av.VideoFrame.from_ndarray(grey(9, height=64, width=64)[0], format="rgb24")))
        container.mux(cover.encode())
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(sound.encode(frame))
        container.mux(sound.encode())
    info = probe(path)
    assert info.has_audio
    assert not info.has_video


def test_a_stream_that_holds_nothing_counts_as_absent(tmp_path):
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        picture = container.add_stream("ffv1", rate=25)
        picture.width, picture.height, picture.pix_fmt = 48, 32, "bgr0"
        container.add_stream("pcm_s16le", rate=8000, layout="mono")
        container.mux(picture.encode(av.VideoFrame.from_ndarray(grey(9)[0], format="rgb24")))
        container.mux(picture.encode())
    assert probe(path).has_video
    assert not probe(path).has_audio


def test_a_truncated_video_gives_what_it_has_and_its_real_duration(tmp_path):
    path = write_h264(tmp_path / "v.mp4", noise(50), movflags="faststart")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    num_frames = sum(1 for _ in read_frames(path, 25))
    assert 15 <= num_frames <= 30
    assert probe(path).duration == pytest.approx(num_frames / 25, abs=0.2)


def test_a_video_damaged_in_the_middle_gives_the_rest(tmp_path):
    path = write_h264(tmp_path / "v.mp4", noise(50), movflags="faststart")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4000] = bytes(4000)
    path.write_bytes(data)
    assert sum(1 for _ in read_frames(path, 25)) == 50


def write_without_frames(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()


def write_without_index(path):
    write_h264(path, noise(50))
    path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.mkdir(),
        lambda path: path.write_text("not a video"),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("1\n00:00:01,000 --> 00:00:02,000\nHello\n"),
        write_without_frames,
        write_without_index,
    ],
    ids=["directory", "text", "empty file", "subtitles", "no frames", "truncated before its index"],
)
def test_a_path_that_is_no_video_is_one_plain_value_error_that_names_it(tmp_path, write):
    path = tmp_path / "v.mp4"
    write(path)
    for read in (probe, lambda path: next(read_frames(path, 10))):
        with pytest.raises(ValueError, match=r"v\.mp4") as error:
            read(path)
        assert type(error.value) is ValueError  # PyAV's own errors are ValueErrors too
        assert "\n" not in str(error.value)


def test_a_missing_file_is_a_file_not_found_error(tmp_path):
    for read in (probe, lambda path: next(read_frames(path, 10))):
        with pytest.raises(FileNotFoundError, match=r"gone\.mp4") as error:
            read(tmp_path / "gone.mp4")
        assert type(error.value) is FileNotFoundError


def test_an_address_is_not_fetched():
    with pytest.raises(FileNotFoundError):
        probe("http://127.0.0.1:9/video.mp4")


def hls(address):
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\n{address}\n#EXT-X-ENDLIST\n"


DASH = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S" minBufferTime="PT1S"
profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="video/mp4"><Representation
id="1" bandwidth="1000" width="48" height="32"><BaseURL>clip.mp4</BaseURL></Representation></AdaptationSet></Period>
</MPD>
"""
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.m3u8", hls("clip.ts")),
        ("absolute.m3u8", hls("{folder}/clip.ts")),
        ("file.m3u8", hls("file://{folder}/clip.ts")),
        ("of_playlists.m3u8", "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\na.m3u8\n"),
        ("a.ffconcat", "ffconcat version 1.0\nfile clip.mp4\n"),
        ("playlist_in_disguise.mp4", "ffconcat version 1.0\nfile clip.mp4\n"),
        ("a.mpd", DASH),
        ("a.sdp", SDP),
        (
            "clip.idx",
            "# VobSub index file, v7 (do not modify this line!)\ntimestamp: 00:00:01:000, filepos: 000000000\n",
        ),
        ("picture%d.jpg", "a name that stands for other pictures"),
    ],
    ids=lambda value: value if len(value) < 30 else "",
)
def test_a_file_that_refers_to_others_does_not_open_them(tmp_path, name, content):
    write_h264(tmp_path / "clip.mp4", grey(*[100] * 25))
    write_h264(tmp_path / "clip.ts", grey(*[100] * 25))
    (tmp_path / "a.m3u8").write_text(hls("clip.ts"))
    for index in range(2):
        write_video(tmp_path / f"picture{index}.jpg", grey(100), [0], "mjpeg", "yuvj420p", update="1")
    (tmp_path / "clip.sub").write_bytes((tmp_path / "clip.mp4").read_bytes())
    path = tmp_path / name
    path.write_text(content.replace("{folder}", str(tmp_path)))
    for source in (path, path.read_bytes()):
        with pytest.raises(ValueError, match="cannot be read|can be decoded"):
            probe(source)


def test_a_playlist_reaches_no_server(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        path = tmp_path / "a.m3u8"
        path.write_text(hls(f"http://127.0.0.1:{server.getsockname()[1]}/clip.ts"))
        for source in (path, path.read_bytes()):
            with pytest.raises(ValueError, match="Playlists are not followed"):
                probe(source)
        with pytest.raises(BlockingIOError):  # no one has knocked
            server.accept()


def test_bytes_are_read_like_the_file_they_come_from(tmp_path):
    path = write_h264(tmp_path / "v.mp4", noise(10))
    assert probe(path.read_bytes()) == probe(path)
    np.testing.assert_array_equal(list(read_frames(path.read_bytes(), 25)), list(read_frames(path, 25)))


@pytest.mark.parametrize("data", [b"", b"not a video"])
def test_bytes_that_are_no_video_are_one_plain_value_error(data):
    with pytest.raises(ValueError, match="the given bytes cannot be read") as error:
        probe(data)
    assert type(error.value) is ValueError  # PyAV's own errors are ValueErrors too


def write_both(path):
    """One second of pictures and of sound, in a Matroska file."""
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("ffv1", rate=25)
        pictures.width, pictures.height, pictures.pix_fmt = 48, 32, "bgr0"
        sound = container.add_stream("aac", rate=8000, layout="mono")
        for index, picture in enumerate(grey(*[100] * 25)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(pictures.encode(frame))
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 8000
        container.mux(sound.encode(samples))
        for stream in (pictures, sound):
            container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("codec", "other_codec"),
    [(b"A_AAC", b"A_XYZ"), (b"A_AAC", b"A_DTS"), (b"V_FFV1", b"V_XYZ1")],
    ids=["sound of an unknown codec", "sound that is not what its header says", "pictures of an unknown codec"],
)
def test_a_stream_that_cannot_be_decoded_counts_as_absent_with_a_warning(tmp_path, caplog, codec, other_codec):
    path = write_both(tmp_path / "v.mkv")
    whole = probe(path)
    assert whole.has_video
    assert whole.has_audio
    path.write_bytes(path.read_bytes().replace(codec, other_codec))
    logging.get_logger("esg_transformers.media.container").addHandler(caplog.handler)
    info = probe(path)
    logging.get_logger("esg_transformers.media.container").removeHandler(caplog.handler)
    kind = {b"A": "audio", b"V": "video"}[codec[:1]]
    assert (info.has_video, info.has_audio) == (kind == "audio", kind == "video")
    assert f"v.mkv: its {kind} stream cannot be decoded and counts as absent" in caplog.text
    assert info.duration == pytest.approx(1.0, abs=0.2)  # an AAC frame lasts 0.128 s here
    if kind == "video":
        with pytest.raises(ValueError, match="No picture can be decoded"):
            next(read_frames(path, 10))


def test_a_leap_of_more_than_a_day_is_damage_and_no_pause(tmp_path):
    day = 24 * 3600 * 1000  # ms
    hour = write_video(tmp_path / "hour.mkv", grey(10, 20, 30), [0, 40, day // 24])
    assert probe(hour).duration == pytest.approx(3600, abs=0.1)
    week = write_video(tmp_path / "week.mkv", grey(10, 20, 30), [0, 40, 7 * day])
    assert probe(week).duration == pytest.approx(0.12, abs=0.01)
    assert levels(week, 25) == [10, 20, 30]


def test_frames_of_a_sound_file_are_refused(tmp_path):
    path = write_sound(tmp_path / "s.wav")
    with pytest.raises(ValueError, match="no video stream"):
        next(read_frames(path, 10))


@pytest.mark.parametrize("frame_rate", [0, -1, float("nan")])
def test_a_frame_rate_that_is_not_above_zero_is_refused(tmp_path, frame_rate):
    with pytest.raises(ValueError, match="above 0"):
        next(read_frames(tmp_path / "v.mp4", frame_rate))
