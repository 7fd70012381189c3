"""transformers' own common tests on ESG-Net.

They are not in transformers' wheel: `run_common_tests.py` takes them from its source distribution, puts this file
beside them and runs it there. Anywhere else this file skips.
"""

import importlib
import unittest
from pathlib import Path

import pytest
import torch
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

from esg_transformers import EsgNetConfig, EsgNetForEventLocalization, EsgNetModel, EsgNetProcessor

if not Path(__file__).with_name("test_modeling_common.py").exists():
    reason = "transformers' common tests run with `python tests/common/run_common_tests.py`"
    pytest.skip(reason, allow_module_level=True)
configuration_common, modeling_common, processing_common = (
    importlib.import_module(f"tests.test_{name}_common") for name in ("configuration", "modeling", "processing")
)

# The mixins tell base models, which have no loss, by the names in this table.
MODEL_MAPPING_NAMES["esg_net"] = "EsgNetModel"


class EsgNetModelTester:
    """Sizes and inputs of the models under test, under the names that the mixins read."""

    batch_size = 3
    seq_length = 7
    hidden_size = 16
    num_hidden_layers = 2
    expected_num_hidden_layers = 2  # hidden states: one after each stage, none before the first
    num_attention_heads = 2
    is_training = True

    def get_config(self):
        return EsgNetConfig(
            num_labels=5,
            visual_size=12,
            audio_size=7,
            hidden_size=self.hidden_size,
            num_attention_heads=self.num_attention_heads,
            intermediate_size=24,
            num_embedding_layers=1,
            num_semantic_stages=self.num_hidden_layers,
            semantic_size=8,
            pyramid_levels=2,
            num_dependency_layers=1,
            num_experts=3,
            num_event_slots=2,
            event_slot_size=4,
            head_size=12,
            num_head_layers=1,
        )

    def prepare_config_and_inputs_for_common(self):
        config = self.get_config()
        inputs = {
            "visual_features": torch.randn(self.batch_size, self.seq_length, config.visual_size),
            "audio_features": torch.randn(self.batch_size, self.seq_length, config.audio_size),
            "attention_mask": torch.ones(self.batch_size, self.seq_length, dtype=torch.long),
        }
        return config, inputs


class EsgNetModelTest(modeling_common.ModelTesterMixin, unittest.TestCase):
    all_model_classes = (EsgNetModel, EsgNetForEventLocalization)
    additional_model_inputs = ("audio_features",)
    test_resize_embeddings = False
    # The mixin's flag for models that do not name a year in a copyright line: check the weights' initialisation anyway.
    test_can_init_all_missing_weights_before_2023 = True

    def setUp(self):
        self.model_tester = EsgNetModelTester()
        self.config_tester = configuration_common.ConfigTester(
            self, config_class=EsgNetConfig, has_text_modality=False, hidden_size=16, semantic_size=8
        )

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels)
        if return_labels and model_class is EsgNetForEventLocalization:
            videos = self.model_tester.batch_size
            inputs["segment_labels"] = torch.tensor([[[0.5, 4.5], [1.0, 2.0]]]).repeat(videos, 1, 1)
            inputs["class_labels"] = torch.tensor([[0, 3]]).repeat(videos, 1)
        return inputs

    def test_config(self):
        self.config_tester.run_common_tests()

    @unittest.skip("ESG-Net reads features: no table of token embeddings")
    def test_model_get_set_embeddings(self):
        pass


class EsgNetProcessorTest(processing_common.ProcessorTesterMixin, unittest.TestCase):
    processor_class = EsgNetProcessor

    @staticmethod
    def prepare_processor_dict():
        return {"frame_rate": 16.0, "feature_stride": 4, "feature_window": 16, "visual_size": 12, "audio_size": 7}

    def test_model_input_names(self):
        # The mixin's test calls the processor with text, images, videos and audio only.
        processor = self.get_processor()
        inputs = processor(torch.zeros(3, 12), torch.zeros(3, 7))
        self.assertSetEqual(set(inputs), set(processor.model_input_names))

    @unittest.skip("EsgNetProcessor takes features and no keyword arguments for modalities")
    def test_flat_kwarg_applied_when_modality_dict_lacks_it(self):
        pass


# What a skip may say (a regular expression, from its start), and why that is right for ESG-Net.
EXPLAINED_SKIPS = {
    r"test requires (accelerator|multiple accelerators|MPS|Flash Attention|the kernels library|deepspeed)": (
        "need a GPU, or a library for one"
    ),
    r"test requires (librosa|Torchcodec)": "media in chat templates; the processor takes features",
    r"test is slow": "training of the compiled model on a GPU",
    r"(ESG-Net reads features|test_resize_embeddings is set to|This model doesn't use `inputs_embeds`"
    r"|No model with a differentiable loss was available to verify enable_input_require_grads"
    r"|Model does not have position embeddings)": "no tables of token or position embeddings",
    r"No (decoder-only|sequence-to-sequence) language modeling head": "not a language model",
    r"(Model is not a composite model|This model is not composite|No subconfigs|EsgNetModel does not support SDPA)": (
        "for models made of several models"
    ),
    r"(No conversion found for|\S+ (class )?has no _keep_in_fp32_modules|Model does not have a TP plan)": (
        "what ESG-Net does not declare: renamed weights, parts of the headless model in float32, tensor parallel plans"
    ),
    r"(EsgNetModel does not support grouped_mm|This model has no sparse experts|.*no `output_router_logits`)": (
        "for sparse experts; those of ESG-Net are dense"
    ),
    r"(This model does not support RoPE scaling|This model does not have RoPE|.*has no axial RoPE)": (
        "for rotary positions of language and image models; those of ESG-Net have one fixed base"
    ),
    r"Model does not support sliding window mask": "attention is over the whole video",
    r"(tokenizer|feature_extractor|image_processor|video_processor) attribute not present": (
        "the processor is made of no other processors"
    ),
    r"Processor (has no chat template|doesn't accept chat templates|has no tokenizer|only has 0 attribute)": (
        "the processor is made of no other processors"
    ),
    r"(Processor doesn't support `_get_num_multimodal_tokens`|.*EsgNetProcessor'> doesn't|EsgNetProcessor takes)": (
        "the processor takes features: no text, images or tokens"
    ),
}
