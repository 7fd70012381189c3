import numpy as np
import pytest
from PIL import Image
from transformers import AutoProcessor

from esg_transformers import I3dProcessor
from esg_transformers.encoders.i3d.processing_i3d import center_crop, resize_frame, scale_flow, scale_rgb

# (height, width) and the same after resizing: the longer side is 256 x longer / shorter, rounded down
SIZES = [
    ((240, 320), (256, 341)),
    ((720, 1280), (256, 455)),
    ((480, 270), (455, 256)),
    ((121, 77), (402, 256)),
    ((256, 300), (256, 300)),
    ((257, 257), (256, 256)),
]


@pytest.mark.parametrize(("before", "after"), SIZES, ids=str)
def test_resizing_is_that_of_pillow_bit_for_bit(before, after):
    frame = np.random.default_rng(0).integers(0, 256, (*before, 3), np.uint8)
    resized = resize_frame(frame)
    assert resized.shape == (*after, 3)
    np.testing.assert_array_equal(resized, np.asarray(Image.fromarray(frame).resize(after[::-1], Image.BILINEAR)))


def test_halving_a_row_weighs_the_pixels_by_their_distance():
    # The new pixel at 1.0 reaches 2 pixels either way: weights 1 - 0.5 / 2, twice, then 1 - 1.5 / 2, of sum 1.75.
    row = np.array([[70, 140, 210, 0]], np.uint8)[..., None].repeat(2, axis=0)  # (2, 4, 1)
    [first, _] = resize_frame(row, shorter_side=1)[0, :, 0]
    assert first == (0.75 * 70 + 0.75 * 140 + 0.25 * 210) / 1.75


def test_where_a_margin_is_odd_the_smaller_half_comes_first():
    columns = np.arange(341)[None, :, None].repeat(256, axis=0)
    cropped = center_crop(columns)
    assert cropped.shape == (224, 224, 1)
    assert cropped[0, 0, 0] == 58  # of 117 columns 58 go on the left


def test_pictures_smaller_than_the_square_are_refused():
    with pytest.raises(ValueError, match="300 x 200 pixels have no square of 224"):
        center_crop(np.zeros((200, 300, 3)))


def test_flow_is_cut_at_20_pixels_and_rounded_to_steps_of_an_8_bit_picture():
    flow = np.array([-99.0, -20.0, -0.1, 0.0, 0.07, 0.08, 19.9, 20.0, 99.0])
    # 128 + 6.375 x flow: 0.5, 0.5, 127.36, 128, 128.45, 128.51, 254.86, 255.5, 255.5; a half to the even number
    steps = np.array([0, 0, 127, 128, 128, 129, 255, 256, 256])
    np.testing.assert_allclose(scale_flow(flow), 2 * steps / 255 - 1, atol=1e-6)


def test_black_is_minus_one_and_white_is_one():
    np.testing.assert_array_equal(scale_rgb(np.array([0, 255], np.uint8)), [-1, 1])


def test_a_window_of_pictures_becomes_one_input():
    frames = np.full((9, 240, 320, 3), 255, np.uint8)
    frames[..., 1] = 0
    pixels = I3dProcessor()(frames)["pixel_values"]
    assert pixels.shape == (1, 9, 3, 224, 224)
    assert [pixels[0, :, channel].unique().item() for channel in range(3)] == [1, -1, 1]


def test_a_window_of_flow_becomes_one_input():
    flow = np.zeros((9, 256, 344, 2), np.float32)
    flow[..., 1] = -20
    pixels = I3dProcessor("flow")(flow)["pixel_values"]
    assert pixels.shape == (1, 9, 2, 224, 224)
    assert pixels[0, :, 0].unique().item() == pytest.approx(1 / 255, abs=1e-6)
    assert pixels[0, :, 1].unique().item() == -1


@pytest.mark.parametrize(
    ("stream", "frames", "message"),
    [
        ("rgb", np.zeros((9, 240, 320, 3)), r"float64 .* takes uint8 \(frames, height, width, 3\)"),
        ("rgb", np.zeros((240, 320, 3), np.uint8), r"\(240, 320, 3\)"),
        ("flow", np.zeros((9, 256, 344, 3)), r"the flow stream takes \(frames, height, width, 2\)"),
    ],
)
def test_frames_of_another_shape_or_type_are_refused(stream, frames, message):
    with pytest.raises(ValueError, match=message):
        I3dProcessor(stream)(frames)


@pytest.mark.parametrize("given", [{"stream": "RGB"}, {"crop_size": 300}, {"crop_size": 0}])
def test_a_processor_that_cannot_work_is_refused(given):
    with pytest.raises(ValueError, match="must be"):
        I3dProcessor(**given)


def test_a_saved_processor_is_the_same_after_loading(tmp_path):
    I3dProcessor("flow", shorter_side=250).save_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    assert type(processor) is I3dProcessor
    assert (processor.stream, processor.shorter_side, processor.crop_size) == ("flow", 250, 224)
