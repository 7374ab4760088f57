"""Each kind of attention computes the same, and diffusers' transformer really uses it."""

from typing import Any

import pytest
import torch
from diffusers.models.transformers.transformer_flux2 import Flux2Transformer2DModel
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from app.core.policy import Attention
from app.engine.attention.chunked import chunked_attention
from app.engine.attention.chunks import SCORE_BYTES, chunk_bytes, chunk_rows
from app.engine.attention.dispatch import kernel_of, missing, use_attention
from app.engine.live_storages import LiveStorages
from tests.fakes import attention_libraries
from tests.fakes.attention_libraries import attention_of
from tests.tiny_models import make_tiny_transformer

LIBRARIES = (Attention.SAGE, Attention.FLASH_ATTN, Attention.XFORMERS)


def inputs(
    tokens: int = 48, heads: int = 2, width: int = 16, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    query, key, value = (
        torch.randn(2, tokens, heads, width, generator=generator).to(dtype) for _ in range(3)
    )
    return query, key, value


def off_by(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found.double() - exact.double()).norm() / exact.double().norm())


def exactly(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    query, key, value = (one.double().transpose(1, 2) for one in (query, key, value))
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    return (scores.softmax(-1) @ value).transpose(1, 2)


@pytest.fixture
def transformer() -> Flux2Transformer2DModel:
    return make_tiny_transformer(double_blocks=1, single_blocks=2)


@torch.no_grad()
def forward(transformer: Any, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    transformer.to(dtype)
    return transformer(
        hidden_states=torch.randn(1, 12, 16, generator=generator).to(dtype),
        encoder_hidden_states=torch.randn(1, 8, 24, generator=generator).to(dtype),
        timestep=torch.tensor([0.5]).to(dtype),
        img_ids=torch.zeros(1, 12, 4),
        txt_ids=torch.zeros(1, 8, 4),
        return_dict=False,
    )[0]


@pytest.mark.parametrize("kind", [Attention.SDPA, Attention.MATH, Attention.CHUNKED])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_kinds_that_always_work_are_exact(
    kind: Attention, dtype: torch.dtype, tolerance: float
) -> None:
    numbers = inputs(dtype=dtype)
    assert not missing(kind)
    found = kernel_of(kind)(*numbers)
    assert found.dtype == dtype
    assert off_by(found, exactly(*numbers)) < tolerance


@settings(max_examples=25, deadline=None)
@given(
    tokens=st.integers(1, 70),
    heads=st.integers(1, 3),
    rows=st.integers(1, 80),
    masked=st.sampled_from(["no", "keys", "all"]),
)
def test_parts_of_any_size_give_what_math_gives(
    tokens: int, heads: int, rows: int, masked: str
) -> None:
    query, key, value = inputs(tokens, heads, 8)
    mask, whole_mask = None, None
    if masked != "no":
        mask = torch.rand(2, tokens, generator=torch.Generator().manual_seed(0)) > 0.3
        mask[:, 0] = True
        whole_mask = mask[:, None, None, :]
        if masked == "all":
            mask = whole_mask = whole_mask.expand(2, heads, tokens, tokens)
    bound_bytes = rows * 2 * heads * tokens * SCORE_BYTES

    found = chunked_attention(query, key, value, attn_mask=mask, bound_bytes=bound_bytes)

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        whole = scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), whole_mask
        ).transpose(1, 2)
    torch.testing.assert_close(found, whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parts_stay_within_their_memory(dtype: torch.dtype) -> None:
    query, key, value = inputs(tokens=600, heads=3, width=16, dtype=dtype)
    bound_bytes = 1 << 20
    whole_bytes = 2 * 3 * 600 * 600 * SCORE_BYTES
    storages = LiveStorages()

    with storages:
        out = chunked_attention(query, key, value, bound_bytes=bound_bytes)

    foreseen = chunk_bytes(batch=2, heads=3, tokens=600, head_width=16, bound_bytes=bound_bytes)
    assert foreseen / 2 < storages.peak_bytes - out.nbytes <= foreseen < whole_bytes / 3


def test_rows_of_a_part_follow_the_bound() -> None:
    assert chunk_rows(batch=1, heads=24, keys=4608, bound_bytes=256 << 20) == 256
    assert chunk_rows(batch=1, heads=24, keys=4608, bound_bytes=8 << 20) == 9
    assert chunk_rows(batch=64, heads=48, keys=1 << 20, bound_bytes=1) == 1


@pytest.mark.parametrize("kind", [Attention.MATH, Attention.CHUNKED])
def test_a_transformer_uses_the_kind_it_is_set_to(transformer: Any, kind: Attention) -> None:
    assert attention_of(transformer) == {"None"}
    plain = forward(transformer)
    use_attention(transformer, Attention.SDPA)
    assert attention_of(transformer) == {"native"}
    assert torch.equal(forward(transformer), plain)

    use_attention(transformer, kind)

    assert len(attention_of(transformer)) == 1
    torch.testing.assert_close(forward(transformer), plain, rtol=1e-4, atol=1e-5)
    use_attention(transformer, Attention.SDPA)
    assert torch.equal(forward(transformer), plain)


def test_in_parts_the_transformer_makes_no_whole_matrix(
    transformer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest: list[int] = []

    def watched(*args: Any, **kwargs: Any) -> torch.Tensor:
        largest.append(args[0].shape[-2])
        return scaled_dot_product_attention(*args, **kwargs)

    monkeypatch.setattr("app.engine.attention.chunked.scaled_dot_product_attention", watched)
    monkeypatch.setattr("app.engine.attention.chunked.chunk_rows", lambda **_: 7)
    use_attention(transformer, Attention.CHUNKED)
    forward(transformer)
    assert largest == [7, 7, 6] * 3


@pytest.mark.parametrize("kind", LIBRARIES)
def test_libraries_that_are_not_there_say_so(kind: Attention) -> None:
    assert "missing package" in missing(kind)


@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [(Attention.SAGE, 0.05), (Attention.FLASH_ATTN, 0.01), (Attention.XFORMERS, 0.01)],
)
def test_libraries_that_are_there_are_called_as_they_want_it(
    kind: Attention, tolerance: float, transformer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    libraries = attention_libraries.install(monkeypatch)
    assert not missing(kind)
    numbers = inputs(dtype=torch.bfloat16)
    assert off_by(kernel_of(kind)(*numbers), exactly(*numbers)) < tolerance

    plain = forward(transformer, torch.bfloat16)
    libraries.calls.clear()
    use_attention(transformer, kind)
    found = forward(transformer, torch.bfloat16)
    assert libraries.calls == [kind.value] * 3
    assert off_by(found, plain) < 0.05


def test_nothing_else_in_the_process_changes_its_attention(transformer: Any) -> None:
    from diffusers.models import attention_dispatch

    before = attention_dispatch._AttentionBackendRegistry.get_active_backend()
    use_attention(transformer, Attention.CHUNKED)
    assert attention_dispatch._AttentionBackendRegistry.get_active_backend() == before
