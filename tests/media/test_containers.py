"""Files as people have them: one scene, written in many ways, must be seen and heard at the same times.

The scene lasts 2 s. It is dark and silent, but bright and with a tone of 1 kHz in 0.4-0.6 s and 1.4-1.6 s.
"""

import random
from fractions import Fraction

import av
import numpy as np
import pytest

from esg_transformers.media.audio import MAX_JITTER, read_waveform
from esg_transformers.media.container import probe
from esg_transformers.media.video import read_frames

pytestmark = pytest.mark.slow

EVENTS = np.array([(0.4, 0.6), (1.4, 1.6)])  # seconds
FRAME_TIMES = range(0, 2000, 40)  # milliseconds
TOLERANCE = 0.021  # seconds; pictures are looked at every 0.02 s


def write_scene(
    path,
    video="libx264",
    audio="aac",
    *,
    pix_fmt="yuv420p",
    size=(64, 48),
    frame_times=FRAME_TIMES,
    encoder_options=(),
    rate=44100,
    layout="stereo",
    audio_start=0.0,
    **options,
):
    """The scene as pictures at `frame_times` and sound from `audio_start` on; a codec `None` leaves one of them out."""
    with av.open(str(path), "w", options=options) as container:
        if video:
            pictures = container.add_stream(video, rate=25, options={"g": "5", "strict": "-2", **dict(encoder_options)})
            pictures.width, pictures.height, pictures.pix_fmt = *size, pix_fmt
            if frame_times != FRAME_TIMES:
                pictures.codec_context.time_base = Fraction(1, 1000)
        if audio:
            sound = container.add_stream(audio, rate=rate, layout=layout, options={"strict": "-2"})
        container.start_encoding()
        if video:
            for time in frame_times:
                level = 220 if happens(np.array(time / 1000)) else 30
                frame = av.VideoFrame.from_ndarray(np.full((*size[::-1], 3), level, np.uint8), format="rgb24")
                frame.pts, frame.time_base = time, Fraction(1, 1000)
                container.mux(pictures.encode(frame))
            container.mux(pictures.encode())
        if audio:
            times = np.arange(round(audio_start * rate), 2 * rate) / rate
            tone = np.round(16000 * np.sin(2 * np.pi * 1000 * times) * happens(times)).astype(np.int16)
            channels = av.AudioLayout(layout).nb_channels
            for first in range(0, len(tone), 1024):
                samples = np.repeat(tone[first : first + 1024], channels)[None]
                frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
                frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
                frame.pts = round(audio_start * rate) + first
                container.mux(sound.encode(frame))
            container.mux(sound.encode())
    return path


def happens(seconds):
    """True where something happens at these times, any shape."""
    starts, ends = EVENTS.T
    return ((starts - 1e-6 <= seconds[..., None]) & (seconds[..., None] < ends - 1e-6)).any(axis=-1)


def seen(source):
    return spans(np.array([picture.mean() > 120 for picture in read_frames(source, 50)]), 50)


def heard(source):
    return spans(np.abs(read_waveform(source, 16000)) > 0.05, 16000)


def spans(active, rate):
    """(start, end) in seconds, (N, 2), of the stretches where `active` holds; pauses up to 50 ms do not end one."""
    times = np.flatnonzero(active) / rate
    breaks = np.flatnonzero(np.diff(times) > 0.05)
    return np.stack([times[[0, *(breaks + 1)]], times[[*breaks, -1]] + 1 / rate], axis=1)


FAST = {"deadline": "realtime", "cpu-used": "8"}
IRREGULAR = [0, 30, 90, 400, 410, 480, 600, 1090, 1100, 1110, 1400, 1550, *range(1600, 2000, 40)]  # milliseconds
LATE = range(200, 2000, 40)  # milliseconds

# By how much the scene's zero lies after that of the file: what encoders put in front of the sound and the container
# cannot mark as such (AAC 1024 samples, MP2 481, LAME 1105) or what the pictures were put off for.
AAC, MP2, LAME = 1024 / 44100, 481 / 44100, 1105 / 44100


@pytest.mark.parametrize(
    ("name", "how", "shift"),
    [
        # Containers and codecs.
        ("h264.mp4", {}, 0),
        ("h264_no_b_frames.mp4", {"encoder_options": {"bf": "0"}}, 0),
        ("h264_fragments.mp4", {"movflags": "frag_keyframe+empty_moov"}, 0.08),  # two frames, for want of an edit list
        ("h264_negative_offsets.mp4", {"movflags": "negative_cts_offsets"}, 0),
        ("mpeg4.mov", {"video": "mpeg4", "audio": "pcm_s16le"}, 0),
        ("mpeg4_mp3.avi", {"video": "mpeg4", "audio": "libmp3lame"}, LAME),
        ("mjpeg_pcm.avi", {"video": "mjpeg", "pix_fmt": "yuvj420p", "audio": "pcm_s16le"}, 0),
        ("vp8_vorbis.webm", {"video": "libvpx", "audio": "vorbis", "encoder_options": FAST}, 0),
        ("vp9_opus.webm", {"video": "libvpx-vp9", "audio": "libopus", "rate": 48000, "encoder_options": FAST}, 0),
        ("ffv1_flac.mkv", {"video": "ffv1", "pix_fmt": "bgr0", "audio": "flac"}, 0),
        ("h264_mp3.mkv", {"audio": "libmp3lame"}, 0),
        ("hevc.mp4", {"video": "libx265", "encoder_options": {"x265-params": "log-level=none"}}, 0),
        ("h264_aac.ts", {}, AAC),
        ("mpeg2_mp2.mpg", {"video": "mpeg2video", "audio": "mp2"}, MP2),
        ("h264_mp3.flv", {"audio": "libmp3lame"}, LAME),
        ("h263_amr.3gp", {"video": "h263", "size": (176, 144), "audio": "amr_nb", "rate": 8000, "layout": "mono"}, 0),
        # Times of the pictures.
        ("irregular.mp4", {"frame_times": IRREGULAR}, 0),
        ("irregular.mkv", {"frame_times": IRREGULAR}, 0),
        ("irregular.webm", {"frame_times": IRREGULAR, "video": "libvpx", "audio": None, "encoder_options": FAST}, 0),
        ("late_pictures.mp4", {"frame_times": LATE}, 0),
        ("late_pictures.mkv", {"frame_times": LATE}, 0),
        ("late_pictures.ts", {"frame_times": LATE}, AAC),
        ("early_pictures.mp4", {"frame_times": range(-320, 2000, 40)}, 0),  # hidden by an edit list
        # Times of the sound.
        ("late_sound.mp4", {"audio_start": 0.3}, 0),
        ("late_sound.mov", {"audio_start": 0.3, "video": "mpeg4", "audio": "pcm_s16le"}, 0),
        ("late_sound.mkv", {"audio_start": 0.3}, 0),
        ("late_sound.webm", {"audio_start": 0.3, "video": "libvpx", "audio": "vorbis", "encoder_options": FAST}, 0),
        ("late_sound.ts", {"audio_start": 0.3}, 0),
        ("late_sound.flv", {"audio_start": 0.3}, 0),
        ("early_sound.mp4", {"audio_start": -0.3}, 0),  # hidden by an edit list
        ("early_sound.mkv", {"audio_start": -0.3}, 0.3),  # Matroska has no time before 0
        ("late_both.mkv", {"frame_times": LATE, "audio_start": 0.1}, -0.1),
        # Kinds of sound.
        ("8000_mono.mp4", {"rate": 8000, "layout": "mono"}, 0),
        ("8000_adpcm.avi", {"video": "mjpeg", "pix_fmt": "yuvj420p", "audio": "adpcm_ima_wav", "rate": 8000}, 0),
        ("11025_mono.mp4", {"rate": 11025, "layout": "mono"}, 0),
        ("16000.mp4", {"rate": 16000}, 0),
        ("22050.mp4", {"rate": 22050}, 0),
        ("48000_5.1.mp4", {"rate": 48000, "layout": "5.1"}, 0),
        ("48000_5.1_ac3.mkv", {"rate": 48000, "layout": "5.1", "audio": "ac3"}, 0),
        # Kinds of pictures.
        ("ten_bits.mp4", {"pix_fmt": "yuv420p10le"}, 0),
        ("prores_ten_bits.mov", {"video": "prores_ks", "pix_fmt": "yuv422p10le", "audio": "pcm_s24le"}, 0),
        ("interlaced.mp4", {"encoder_options": {"x264-params": "interlaced=1"}}, 0),
        ("alpha.mov", {"video": "png", "pix_fmt": "rgba"}, 0),
        ("odd_size.mp4", {"pix_fmt": "yuv444p", "size": (51, 35)}, 0),
        ("grey.mkv", {"video": "ffv1", "pix_fmt": "gray"}, 0),
        # One of the two.
        ("no_sound.mp4", {"audio": None}, 0),
        ("no_pictures.m4a", {"video": None}, 0),
        ("no_pictures.mp3", {"video": None, "audio": "libmp3lame"}, 0),
        ("no_pictures.ogg", {"video": None, "audio": "vorbis"}, 0),
        ("no_pictures.flac", {"video": None, "audio": "flac"}, 0),
        ("no_pictures.aac", {"video": None}, AAC),
    ],
)
def test_a_flash_and_a_beep_are_found_at_their_times(tmp_path, name, how, shift):
    path = write_scene(tmp_path / name, **how)
    info = probe(path)
    assert info.has_video == (how.get("video", "x") is not None)
    assert info.has_audio == (how.get("audio", "x") is not None)
    assert info.duration == pytest.approx(2.0 + shift, abs=0.08)
    for source in (path, path.read_bytes()):
        if info.has_video:
            np.testing.assert_allclose(seen(source), EVENTS + shift, atol=TOLERANCE)
        if info.has_audio:
            np.testing.assert_allclose(heard(source), EVENTS + shift, atol=TOLERANCE)


def test_what_an_edit_list_cuts_off_is_neither_seen_nor_heard(tmp_path):
    path = write_scene(tmp_path / "v.mp4")
    data = bytearray(path.read_bytes())
    # ISO/IEC 14496-12, 8.6.6: after the name 4 bytes of flags, 4 of the count; then duration, media time, rate. The
    # cut of 0.3 s is in the time scale of the track: 12,800 of the pictures, which come first, and 44,100 of the sound.
    position = 0
    for time_scale in (12800, 44100):
        position = data.index(b"elst", position + 1)
        field = slice(position + 16, position + 20)
        media_time = int.from_bytes(data[field], "big") + 3 * time_scale // 10
        data[field] = media_time.to_bytes(4, "big")
    np.testing.assert_allclose(seen(bytes(data)), EVENTS - 0.3, atol=TOLERANCE)
    np.testing.assert_allclose(heard(bytes(data)), EVENTS - 0.3, atol=TOLERANCE)


KINDS = {
    "v.mp4": {"movflags": "faststart"},
    "fragments.mp4": {"movflags": "frag_keyframe+empty_moov"},
    "v.mov": {"video": "mjpeg", "pix_fmt": "yuvj420p", "audio": "pcm_s16le", "movflags": "faststart"},
    "v.mkv": {"cluster_time_limit": "200"},
    "v.webm": {"video": "libvpx", "audio": "vorbis", "encoder_options": FAST, "cluster_time_limit": "200"},
    "v.avi": {"video": "mpeg4", "audio": "libmp3lame"},
    "v.ts": {},
    "v.flv": {"audio": "libmp3lame"},
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("kept", [0.5, 0.75, 0.95])
def test_a_truncated_file_gives_the_beginning_of_the_whole(tmp_path, name, kept):
    data = write_scene(tmp_path / name, **KINDS[name]).read_bytes()
    part = data[: int(kept * len(data))]
    whole_pictures, pictures = (np.array(list(read_frames(source, 25))) for source in (data, part))
    whole_sound, sound = (read_waveform(source, 16000) for source in (data, part))
    assert 0.2 * kept * len(whole_pictures) < len(pictures) <= len(whole_pictures)
    assert 0.2 * kept * len(whole_sound) < len(sound) <= len(whole_sound)
    # The last picture may be cut, and the last 50 ms are where decoders and resamplers end.
    np.testing.assert_allclose(pictures[:-2], whole_pictures[: len(pictures) - 2], atol=12)
    np.testing.assert_allclose(sound[:-800], whole_sound[: len(sound) - 800], atol=0.02)
    assert probe(part).duration == pytest.approx(max(len(pictures) / 25, len(sound) / 16000), abs=0.1)


@pytest.mark.parametrize("name", KINDS)
def test_damage_in_the_middle_does_not_move_what_comes_after(tmp_path, name):
    path = write_scene(tmp_path / name, **KINDS[name])
    sights, sounds = seen(path), heard(path)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 100] = random.Random(0).randbytes(100)
    np.testing.assert_allclose(seen(bytes(data))[-1], sights[-1], atol=TOLERANCE)
    # A packet of sound that is lost is shorter than the jitter that times are allowed.
    np.testing.assert_allclose(heard(bytes(data))[-1], sounds[-1], atol=MAX_JITTER + TOLERANCE)


@pytest.mark.parametrize("name", KINDS)
def test_noise_in_a_file_is_read_or_refused_plainly(tmp_path, name):
    data = write_scene(tmp_path / name, **KINDS[name]).read_bytes()
    chance = random.Random(0)
    for _ in range(10):
        noisy = bytearray(data)
        for _ in range(20):
            noisy[chance.randrange(len(noisy))] = chance.randrange(256)
        try:
            info = probe(bytes(noisy))
        except ValueError as error:
            assert type(error) is ValueError  # PyAV's own errors are ValueErrors too
            continue
        if info.has_video:
            assert next(read_frames(bytes(noisy), 10, (8, 6))).shape == (6, 8, 3)
        if info.has_audio and info.duration < 60:
            assert np.abs(read_waveform(bytes(noisy), 8000)).max() <= 1
