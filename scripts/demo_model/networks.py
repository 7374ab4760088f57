"""The demo model's networks: FLUX.2 klein's own classes, made tiny (about 2.9 M parameters in all).

The layout is the real one: `Flux2KleinPipeline` with default arguments opens and runs the folder,
so the text encoder is deep enough for the layers klein reads (9, 18 and 27).
"""

import math
import random
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_flux2 import AutoencoderKLFlux2
from diffusers.models.transformers.transformer_flux2 import Flux2Transformer2DModel
from diffusers.pipelines.flux2.pipeline_flux2_klein import Flux2KleinPipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
    FlowMatchEulerDiscreteScheduler,
)
from tokenizers import ByteLevelBPETokenizer
from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3ForCausalLM

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}"
    "{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}"
    "{{- '<think>\\n\\n</think>\\n\\n' }}"
    "{%- endif %}"
    "{%- endif %}"
)
OUT_LAYERS = (9, 18, 27)
"""Hidden states the klein pipeline reads (diffusers Flux2KleinPipeline.encode_prompt default)."""
TEXT_LENGTH = 512
LATENT_CHANNELS = 16
PAD_SAMPLES = 8
"""Padding tokens that a training step sees of the 480 or so there are."""


def build_tokenizer(corpus: list[str], folder: Path) -> Qwen2Tokenizer:
    """Train a byte-level BPE tokenizer on the corpus, unless `folder` has it; wrap it as Qwen's."""
    if not (folder / "merges.txt").exists():
        trainer = ByteLevelBPETokenizer()
        trainer.train_from_iterator(
            [*corpus, *["user\n", "assistant\n", "\n\n"] * 400],
            vocab_size=420,
            min_frequency=2,
            show_progress=False,
        )
        folder.mkdir(parents=True, exist_ok=True)
        trainer.save_model(str(folder))
    tokenizer = Qwen2Tokenizer(
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


def build_text_encoder(tokenizer: Qwen2Tokenizer) -> Qwen3ForCausalLM:
    """28 narrow Qwen3 layers; residual branches start small, so that depth does no harm."""
    # Ids are whole numbers here; the library types them for every kind of tokenizer.
    pad: Any = tokenizer.pad_token_id
    end: Any = tokenizer.eos_token_id
    config = Qwen3Config(
        vocab_size=-(-len(tokenizer) // 8) * 8,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=28,
        num_attention_heads=3,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=pad,
        eos_token_id=end,
        bos_token_id=None,
    )
    model = Qwen3ForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.normal_(0, 0.5)
        layers: Any = model.model.layers
        for layer in layers:
            for linear in (
                layer.self_attn.q_proj,
                layer.self_attn.k_proj,
                layer.self_attn.v_proj,
                layer.mlp.gate_proj,
                layer.mlp.up_proj,
            ):
                linear.weight.normal_(0, 0.1)
            layer.self_attn.o_proj.weight.normal_(0, 0.03)
            layer.mlp.down_proj.weight.normal_(0, 0.03)
    return model


def build_transformer() -> Flux2Transformer2DModel:
    """One double and five single blocks of width 128; output starts at zero, gates open."""
    model = Flux2Transformer2DModel(
        in_channels=LATENT_CHANNELS * 4,
        num_layers=1,
        num_single_layers=5,
        attention_head_dim=32,
        num_attention_heads=4,
        joint_attention_dim=48 * len(OUT_LAYERS),
        timestep_guidance_channels=128,
        # Rows and columns get most of the rotations, at rates that tell 16 tokens apart: outlines
        # need places to a fraction of a token.
        axes_dims_rope=(4, 12, 12, 4),
        rope_theta=32,
        guidance_embeds=False,
    )
    with torch.no_grad():
        model.proj_out.weight.zero_()
    return model


def build_autoencoder() -> AutoencoderKLFlux2:
    """About half a million parameters; 16 latent channels at one eighth of the size."""
    model = AutoencoderKLFlux2(
        block_out_channels=(16, 32, 40, 48),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        # One group: with few channels, more groups would normalize the picture's colour away.
        norm_num_groups=1,
        sample_size=256,
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("conv2.weight"):
                parameter.zero_()
    return model


def build_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Klein's own scheduler settings."""
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


def assemble(
    autoencoder: AutoencoderKLFlux2,
    text_encoder: Qwen3ForCausalLM,
    tokenizer: Qwen2Tokenizer,
    transformer: Flux2Transformer2DModel,
) -> Flux2KleinPipeline:
    """The four parts as one distilled klein pipeline (guidance is not used)."""
    return Flux2KleinPipeline(
        scheduler=build_scheduler(),
        vae=autoencoder,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=transformer,
        is_distilled=True,
    )


def encode_captions(
    text_encoder: Qwen3ForCausalLM,
    tokenizer: Qwen2Tokenizer,
    captions: list[str],
    rng: random.Random,
    *,
    full: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Embed captions as klein does, with all 512 tokens (`full`) or part of the padding.

    Returns:
        Embeddings (n, t, 144); token positions (t,); logarithm of each token's weight (t,).
    """
    texts = [
        str(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": caption}],
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,
            )
        )
        for caption in captions
    ]
    tokens = tokenizer(texts, padding="longest", return_tensors="pt")
    ids, mask = tokens["input_ids"], tokens["attention_mask"]
    count, real = ids.shape
    if full:
        extra = torch.arange(real, TEXT_LENGTH)
        weight = 0.0
    else:
        extra = torch.tensor(sorted(rng.sample(range(real, TEXT_LENGTH), PAD_SAMPLES)))
        weight = math.log((TEXT_LENGTH - real) / PAD_SAMPLES)
    positions = torch.cat([torch.arange(real), extra])
    pad_id: Any = tokenizer.pad_token_id
    pad = torch.full((count, len(extra)), pad_id)
    output = text_encoder.model(
        input_ids=torch.cat([ids, pad], dim=1),
        attention_mask=torch.cat([mask, torch.zeros_like(pad)], dim=1),
        position_ids=positions.unsqueeze(0).expand(count, -1),
        output_hidden_states=True,
        use_cache=False,
    )
    embeddings = torch.cat([output.hidden_states[layer] for layer in OUT_LAYERS], dim=-1)
    weights = torch.cat([torch.zeros(real), torch.full((len(extra),), weight)])
    return embeddings, positions, weights
