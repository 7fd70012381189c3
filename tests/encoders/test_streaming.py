"""Features that name the pictures and the samples they were made of."""

from fractions import Fraction

import av
import numpy as np
import pytest
from transformers.utils import logging

from esg_transformers.encoders.streaming import encode_in_blocks
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid

GRID = FeatureGrid(frame_rate=5, stride=5, window=5)  # a feature for each second
SECONDS = 7


def see(frames, num_steps):
    """The brightness of the first picture of each second."""
    frames = iter(frames)
    for _ in range(num_steps):
        first, *_ = (next(frames) for _ in range(5))
        yield np.array([first.mean()], np.float32)


def hear(stretches, num_steps):
    """The volume of each piece of sound, one second long."""
    for _, stretch in zip(range(num_steps), stretches, strict=False):
        yield np.array([stretch.std()], np.float32)


def write_clip(path, picture=True, sound=True, damage=()):
    """7 s, second `n` of brightness `30 n` and volume `n / 10`; the packets of pictures at `damage` are no pictures."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mjpeg", rate=5) if picture else None
        audio = container.add_stream("pcm_s16le", rate=8000, layout="mono") if sound else None
        if video:
            video.width, video.height, video.pix_fmt = 32, 32, "yuvj420p"
            for index in range(5 * SECONDS):
                frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 30 * (index // 5), np.uint8), format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 5)
                for packet in video.encode(frame):
                    if index in damage:
                        whole, packet = packet, av.Packet(b"no picture")
                        packet.stream, packet.pts, packet.dts = video, whole.pts, whole.dts
                        packet.time_base = whole.time_base
                    container.mux(packet)
            container.mux(video.encode())
        if audio:
            sign = np.resize([-1, 1], 8000 * SECONDS)
            samples = (sign * np.repeat(np.arange(SECONDS), 8000) * 3277).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 8000, 0, Fraction(1, 8000)
            container.mux(audio.encode(frame))
            container.mux(audio.encode())
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mkv")


@pytest.mark.parametrize(("num_steps", "sizes"), [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (100, [7])])
def test_blocks_hold_each_second_once_and_in_order(clip, num_steps, sizes):
    blocks = list(encode_in_blocks(clip, GRID, num_steps, see, hear, 8000))
    assert [len(block.visual) for block in blocks] == [len(block.audio) for block in blocks] == sizes
    assert {(block.grid, block.duration) for block in blocks} == {(GRID, 7.0)}
    np.testing.assert_allclose(np.concatenate([block.visual for block in blocks])[:, 0], 30 * np.arange(7), atol=2)
    np.testing.assert_allclose(np.concatenate([block.audio for block in blocks])[:, 0], np.arange(7) / 10, atol=1e-4)


def test_the_bytes_of_a_file_give_the_features_of_the_file(clip):
    [block] = encode_in_blocks(clip.read_bytes(), GRID, 100, see, hear, 8000)
    [expected] = encode_in_blocks(clip, GRID, 100, see, hear, 8000)
    np.testing.assert_array_equal(block.visual, expected.visual)
    np.testing.assert_array_equal(block.audio, expected.audio)


def test_neither_pictures_nor_sound_are_read_ahead_of_a_block(clip):
    read = {"pictures": 0, "seconds": 0}

    def counted(items, what):
        for item in items:
            read[what] += 1
            yield item

    blocks = encode_in_blocks(
        clip,
        GRID,
        2,
        lambda frames, num_steps: see(counted(frames, "pictures"), num_steps),
        lambda stretches, num_steps: hear(counted(stretches, "seconds"), num_steps),
        8000,
    )
    next(blocks)
    assert read == {"pictures": 10, "seconds": 2}
    next(blocks)
    assert read == {"pictures": 20, "seconds": 4}


def test_a_stream_that_the_file_or_the_encoder_lacks_is_absent_and_one_is_needed(clip, tmp_path):
    mute = write_clip(tmp_path / "mute.mkv", sound=False)
    blind = write_clip(tmp_path / "blind.mkv", picture=False)
    for source, eyes, ears in ((mute, see, hear), (clip, see, None)):
        blocks = list(encode_in_blocks(source, GRID, 4, eyes, ears, 8000))
        assert [(len(block.visual), block.audio) for block in blocks] == [(4, None), (3, None)]
    for source, eyes, ears in ((blind, see, hear), (clip, None, hear)):
        blocks = list(encode_in_blocks(source, GRID, 4, eyes, ears, 8000))
        assert [(block.visual, len(block.audio)) for block in blocks] == [(None, 4), (None, 3)]
    with pytest.raises(ValueError, match=r"blind.mkv has no pictures, and the encoder has no audio model"):
        next(encode_in_blocks(blind, GRID, 4, see, None, 8000))
    with pytest.raises(ValueError, match=r"^<bytes> has no sound, and the encoder has no visual model"):
        next(encode_in_blocks(mute.read_bytes(), GRID, 4, None, hear, 8000))


def test_a_damaged_picture_behind_the_last_window_is_told_too(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.get_logger("esg_transformers"), "propagate", True)
    path = write_clip(tmp_path / "damaged.mkv", sound=False, damage=[34])
    windows_of_6_pictures = FeatureGrid(frame_rate=5, stride=6, window=6)  # the last of 5 has the pictures 24 to 29
    [block] = encode_in_blocks(path, windows_of_6_pictures, 100, see, None, 8000)
    assert len(block.visual) == 5
    assert "1 damaged video packets were left out" in caplog.text
