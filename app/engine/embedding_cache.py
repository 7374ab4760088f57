"""Prompt embeddings already made, so that the text encoder rests when a prompt comes again."""

from collections import OrderedDict

import torch

CAPACITY_BYTES = 256 * 1024 * 1024
"""About sixteen prompts of dev in bf16, thirty of klein."""


class EmbeddingCache:
    """Embeddings by prompt, in RAM; those not used for the longest time make room."""

    def __init__(self, capacity_bytes: int = CAPACITY_BYTES) -> None:
        self._capacity_bytes = capacity_bytes
        self._size_bytes = 0
        self._entries: OrderedDict[str, torch.Tensor] = OrderedDict()

    def __contains__(self, prompt: str) -> bool:
        return prompt in self._entries

    def get(self, prompt: str) -> torch.Tensor | None:
        """Embeddings (1, tokens, width) on the CPU, or None."""
        embeddings = self._entries.get(prompt)
        if embeddings is not None:
            self._entries.move_to_end(prompt)
        return embeddings

    def put(self, prompt: str, embeddings: torch.Tensor) -> torch.Tensor:
        """Keep a copy in RAM of embeddings (1, tokens, width) from any device, and return it."""
        former = self._entries.pop(prompt, None)
        if former is not None:
            self._size_bytes -= former.nbytes
        kept = embeddings.detach().to("cpu", copy=True)
        self._entries[prompt] = kept
        self._size_bytes += kept.nbytes
        # One entry always stays: a prompt larger than the cache is still wanted at once.
        while self._size_bytes > self._capacity_bytes and len(self._entries) > 1:
            _, dropped = self._entries.popitem(last=False)
            self._size_bytes -= dropped.nbytes
        return kept
