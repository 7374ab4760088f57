"""Attention with the queries in parts: the math of torch, in memory that does not grow with them.

Fused kernels need as little and are faster. This is for where there are none, and for sizes at
which whole matrices of scores would not fit.
"""

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from app.engine.attention.chunks import CHUNK_BYTES, chunk_rows


def chunked_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    scale: float | None = None,
    bound_bytes: int = CHUNK_BYTES,
) -> torch.Tensor:
    """Attention of (batch, tokens, heads, width) tensors, as diffusers lays them out.

    Args:
        query: In parts.
        key: Whole.
        value: Whole.
        attn_mask: As of torch, or (batch, keys) as diffusers allows; None masks nothing.
        scale: Of the scores; None is one over the root of the width.
        bound_bytes: For the scores and weights of a part.
    """
    batch, queries, heads, _width = query.shape
    mask = _four_dimensional(attn_mask)
    rows = chunk_rows(batch=batch, heads=heads, keys=key.shape[1], bound_bytes=bound_bytes)
    heads_first = [part.permute(0, 2, 1, 3) for part in (query, key, value)]
    out = torch.empty(
        (batch, queries, heads, value.shape[-1]), dtype=query.dtype, device=query.device
    )
    with sdpa_kernel(SDPBackend.MATH):
        for first in range(0, queries, rows):
            part = slice(first, min(queries, first + rows))
            found = scaled_dot_product_attention(
                heads_first[0][:, :, part],
                heads_first[1],
                heads_first[2],
                attn_mask=_rows_of(mask, part),
                scale=scale,
            )
            out[:, part] = found.permute(0, 2, 1, 3)
            # Before the next part is computed: two at once would double the bound.
            del found
    return out


def _four_dimensional(mask: torch.Tensor | None) -> torch.Tensor | None:
    if mask is None or mask.ndim == 4:
        return mask
    return mask[:, None, None, :]


def _rows_of(mask: torch.Tensor | None, part: slice) -> torch.Tensor | None:
    if mask is None or mask.shape[-2] == 1:
        return mask
    return mask[..., part, :]
