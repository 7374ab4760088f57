"""Prompt embeddings already made, so that the text encoder rests when a prompt comes again."""

from collections import OrderedDict
from collections.abc import Iterable

import torch

from app.engine.embedding_store import EmbeddingStore

CAPACITY_BYTES = 256 * 1024 * 1024
"""About sixteen prompts of dev in bf16, thirty of klein."""


class EmbeddingCache:
    """Embeddings by prompt, in RAM; those not used for the longest time make room.

    Attributes:
        kept: Where they are kept longer, and found again; None keeps them here only.
    """

    def __init__(
        self, capacity_bytes: int = CAPACITY_BYTES, *, kept: EmbeddingStore | None = None
    ) -> None:
        self.kept = kept
        self._capacity_bytes = capacity_bytes
        self._size_bytes = 0
        self._entries: OrderedDict[str, torch.Tensor] = OrderedDict()

    def __contains__(self, prompt: str) -> bool:
        """Whether embeddings are at hand; those that are kept elsewhere are here from now on."""
        return prompt in self._entries or self.get(prompt) is not None

    def get(self, prompt: str) -> torch.Tensor | None:
        """Embeddings (1, tokens, width) on the CPU, or None."""
        embeddings = self._entries.get(prompt)
        if embeddings is not None:
            self._entries.move_to_end(prompt)
            return embeddings
        embeddings = None if self.kept is None else self.kept.get(prompt)
        if embeddings is not None:
            self._add(prompt, embeddings)
        return embeddings

    def put(self, prompt: str, embeddings: torch.Tensor) -> torch.Tensor:
        """Keep a copy in RAM of embeddings (1, tokens, width) from any device, and return it."""
        copy = embeddings.detach().to("cpu", copy=True)
        self._add(prompt, copy)
        if self.kept is not None:
            self.kept.put(prompt, copy)
        return copy

    def needs_text_encoder(self, prompts: Iterable[str]) -> bool:
        """Whether any of these prompts has yet to be encoded."""
        return any(prompt not in self for prompt in prompts)

    def _add(self, prompt: str, embeddings: torch.Tensor) -> None:
        former = self._entries.pop(prompt, None)
        if former is not None:
            self._size_bytes -= former.nbytes
        self._entries[prompt] = embeddings
        self._size_bytes += embeddings.nbytes
        # One entry always stays: a prompt larger than the cache is still wanted at once.
        while self._size_bytes > self._capacity_bytes and len(self._entries) > 1:
            _, dropped = self._entries.popitem(last=False)
            self._size_bytes -= dropped.nbytes
