"""Small random FLUX.2 models in the real folder layout, made by diffusers' own classes."""

import json
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers.models.autoencoders.autoencoder_kl_flux2 import AutoencoderKLFlux2
from diffusers.models.transformers.transformer_flux2 import Flux2Transformer2DModel
from diffusers.pipelines.flux2.pipeline_flux2 import Flux2Pipeline
from diffusers.pipelines.flux2.pipeline_flux2_klein import Flux2KleinPipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
    FlowMatchEulerDiscreteScheduler,
)
from tokenizers import ByteLevelBPETokenizer, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from scripts.demo_model.networks import CHAT_TEMPLATE, SPECIAL_TOKENS

Kind = Literal["klein", "klein-base", "dev"]

HIDDEN_SIZE = 16
"""Of the text encoders."""
LATENT_CHANNELS = 8
TEXT_LENGTH = 512
_OUT_LAYERS = 3
_PIXTRAL_TOKENS = (
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]",
    "[IMG]", "[IMG_BREAK]", "[IMG_END]", "<pad>",
)  # fmt: skip
_PIXTRAL_TEMPLATE = (
    "{{- '<s>' }}"
    "{%- for message in messages %}"
    "{%- if message.role == 'system' %}"
    "{{- '[SYSTEM_PROMPT]' + message.content[0].text + '[/SYSTEM_PROMPT]' }}"
    "{%- else %}"
    "{{- '[INST]' + message.content[0].text + '[/INST]' }}"
    "{%- endif %}"
    "{%- endfor %}"
)


def make_tiny_model(
    kind: Kind,
    folder: Path,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    deep: bool = False,
) -> Path:
    """Write a small random model and return its folder.

    Args:
        kind: Distilled klein, klein base, or dev.
        folder: Made when missing.
        seed: Of the weights; the global generator of torch is left as it was.
        dtype: The weights are stored in.
        deep: Whether the text encoder has the layers that diffusers' pipelines read by default;
            without, it has 4.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = _dev(folder, deep=deep) if kind == "dev" else _klein(kind, folder, deep=deep)
        _wake(pipeline)
    for name in ("transformer", "vae", "text_encoder"):
        # Not the models' own `to`, which warns about casting.
        torch.nn.Module.to(getattr(pipeline, name), dtype)
    pipeline.save_pretrained(folder, safe_serialization=True)
    if kind == "dev":
        _make_pixtral_processor(folder)
    return folder


def _klein(kind: Kind, folder: Path, *, deep: bool) -> Any:
    tokenizer = _qwen_tokenizer(folder / "tokenizer")
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN_SIZE,
        intermediate_size=24,
        num_hidden_layers=30 if deep else 4,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
    )
    return Flux2KleinPipeline(
        scheduler=_scheduler(),
        vae=_autoencoder(),
        text_encoder=Qwen3ForCausalLM(config),
        tokenizer=tokenizer,
        transformer=_transformer(guidance_embeds=False),
        is_distilled=kind == "klein",
    )


def _dev(folder: Path, *, deep: bool) -> Any:
    tokenizer = _pixtral_tokenizer()
    text = {
        "model_type": "mistral",
        "vocab_size": len(tokenizer),
        "hidden_size": HIDDEN_SIZE,
        "intermediate_size": 24,
        "num_hidden_layers": 31 if deep else 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "max_position_embeddings": 1024,
    }
    vision = {
        "model_type": "pixtral",
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "head_dim": 8,
        "image_size": 28,
        "patch_size": 14,
    }
    config = Mistral3Config(
        text_config=text,
        vision_config=vision,
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        spatial_merge_size=2,
    )
    return Flux2Pipeline(
        scheduler=_scheduler(),
        vae=_autoencoder(),
        text_encoder=Mistral3ForConditionalGeneration(config),
        tokenizer=tokenizer,
        transformer=_transformer(guidance_embeds=True),
    )


def _qwen_tokenizer(folder: Path) -> Qwen2Tokenizer:
    trainer = _bytes_only()
    folder.mkdir(parents=True, exist_ok=True)
    trainer.save_model(str(folder))
    tokenizer: Any = Qwen2Tokenizer(
        vocab=str(folder / "vocab.json"),
        merges=str(folder / "merges.txt"),
        unk_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL_TOKENS[1:]),
        model_max_length=TEXT_LENGTH,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _pixtral_tokenizer() -> Any:
    core: Any = Tokenizer(BPE(vocab=dict(_bytes_only().get_vocab()), merges=[]))
    core.pre_tokenizer = ByteLevel(add_prefix_space=False)
    core.decoder = ByteLevelDecoder()
    core.add_special_tokens(list(_PIXTRAL_TOKENS))
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        padding_side="left",
        model_max_length=TEXT_LENGTH,
    )
    tokenizer.chat_template = _PIXTRAL_TEMPLATE
    return tokenizer


def _make_pixtral_processor(folder: Path) -> None:
    """Turn the saved tokenizer into what PixtralProcessor saves.

    The class itself cannot be imported without torchvision, which nothing else here needs.
    """
    _update_json(folder / "model_index.json", tokenizer=["transformers", "PixtralProcessor"])
    _update_json(folder / "tokenizer" / "tokenizer_config.json", processor_class="PixtralProcessor")
    _update_json(
        folder / "tokenizer" / "processor_config.json",
        image_break_token="[IMG_BREAK]",
        image_end_token="[IMG_END]",
        image_processor={
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_pad": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_processor_type": "PixtralImageProcessor",
            "image_std": [0.26862954, 0.26130258, 0.27577711],
            "patch_size": 14,
            "resample": 3,
            "rescale_factor": 1 / 255,
            "size": {"longest_edge": 1024},
        },
        image_token="[IMG]",
        patch_size=14,
        processor_class="PixtralProcessor",
        spatial_merge_size=2,
    )


def _update_json(path: Path, **values: Any) -> None:
    known = json.loads(path.read_text("utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**known, **values}, indent=2), "utf-8")


def make_tiny_transformer(*, double_blocks: int, single_blocks: int) -> Flux2Transformer2DModel:
    """A FLUX.2 transformer alone, with the same random weights each time.

    Its latents are 16 wide, and embeddings 24.
    """
    torch.manual_seed(0)
    return Flux2Transformer2DModel(
        in_channels=16,
        num_layers=double_blocks,
        num_single_layers=single_blocks,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=24,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    ).eval()


def _bytes_only() -> Any:
    """A byte-level tokenizer that has learned no merges: one token a byte."""
    trainer = ByteLevelBPETokenizer()
    trainer.train_from_iterator(["a"], vocab_size=256, show_progress=False)
    return trainer


def _scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Settings of FLUX.2's own scheduler_config.json."""
    return FlowMatchEulerDiscreteScheduler(
        base_image_seq_len=256,
        base_shift=0.5,
        max_image_seq_len=4096,
        max_shift=1.15,
        num_train_timesteps=1000,
        shift=3.0,
        time_shift_type="exponential",
        use_dynamic_shifting=True,
    )


def _transformer(*, guidance_embeds: bool) -> Flux2Transformer2DModel:
    return Flux2Transformer2DModel(
        in_channels=LATENT_CHANNELS * 4,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=HIDDEN_SIZE * _OUT_LAYERS,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guidance_embeds,
    )


def _autoencoder() -> AutoencoderKLFlux2:
    return AutoencoderKLFlux2(
        block_out_channels=(4, 4, 8, 8),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=2,
        sample_size=64,
    )


def _wake(pipeline: Any) -> None:
    """Make prompt, guidance and seed matter: fresh networks are too quiet to tell them apart."""
    with torch.no_grad():
        for parameter in pipeline.text_encoder.parameters():
            parameter.normal_(0, 0.3)
        for parameter in pipeline.transformer.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3)
        # The system message of dev would drown the prompt otherwise.
        pipeline.transformer.context_embedder.weight.mul_(4)
        # A trained autoencoder's statistics are not those of a fresh one.
        statistics = pipeline.vae.bn
        statistics.running_mean.normal_(0, 0.2)
        statistics.running_var.uniform_(0.5, 1.5)
