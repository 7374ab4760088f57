"""Embeddings that outlive the engine: found again, bounded, and never wrong."""

import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.atomic import PARTIAL_PREFIX, PARTIAL_SUFFIX
from app.engine.cache_folder import CacheFolder
from app.engine.embedding_cache import EmbeddingCache
from app.engine.embedding_store import EmbeddingStore
from app.engine.encoder_identity import encoder_identity, prompt_key
from app.engine.model_folder import ModelInfo, inspect_model_folder
from app.engine.prompt_folder import SUFFIX

RUNS_AS = ("cpu", "bf16")


def embeddings(number: float, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.full((1, 16, 8), number).to(dtype)


def store(folder: Path, identity: str = "one", capacity_bytes: int = 1 << 20) -> EmbeddingStore:
    return EmbeddingStore(
        CacheFolder(folder, suffix=SUFFIX, capacity_bytes=capacity_bytes), identity
    )


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_embeddings_come_back_bit_for_bit(tmp_path: Path) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        wanted = torch.randn(1, 16, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
        store(tmp_path).put("a red circle", wanted)
        found = store(tmp_path).get("a red circle")
        assert found is not None
        assert found.dtype == dtype
        assert torch.equal(found, wanted)


def test_other_prompts_and_other_encoders_have_their_own(tmp_path: Path) -> None:
    store(tmp_path).put("a", embeddings(1))
    assert store(tmp_path).get("b") is None
    assert store(tmp_path, "two").get("a") is None


def test_prompts_cannot_be_read_from_the_folder(tmp_path: Path) -> None:
    store(tmp_path).put("a secret", embeddings(1))
    (file,) = tmp_path.iterdir()
    assert b"secret" not in file.read_bytes() + file.name.encode()


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_broken_files_are_ignored_and_removed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("embeddings")
    wanted = torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(0))
    store(folder).put("a", wanted)
    (file,) = folder.iterdir()
    content = bytearray(file.read_bytes())
    if data.draw(st.booleans(), label="truncated"):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)

    found = store(folder).get("a")

    # Blanks in the header may change without any harm.
    assert not files(folder) if found is None else torch.equal(found, wanted)


def test_files_of_something_else_are_removed(tmp_path: Path) -> None:
    path = tmp_path / f"{prompt_key('one', 'a')}{SUFFIX}"
    path.write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    assert store(tmp_path).get("a") is None
    assert not path.exists()


def test_the_longest_unused_make_room(tmp_path: Path) -> None:
    one_bytes = 500
    folder = CacheFolder(tmp_path, suffix=".x", capacity_bytes=3 * one_bytes)
    for index, name in enumerate("abc"):
        folder.write(name, bytes(one_bytes))
        os.utime(tmp_path / f"{name}.x", ns=(0, index))
    assert folder.read("a") is not None

    folder.write("d", bytes(one_bytes))

    assert files(tmp_path) == {"a.x", "c.x", "d.x"}
    assert folder.size_bytes() == 3 * one_bytes
    # What is replaced is not in its own way.
    folder.write("c", bytes(one_bytes))
    assert files(tmp_path) == {"a.x", "c.x", "d.x"}
    assert not folder.write("e", bytes(4 * one_bytes))
    assert files(tmp_path) == {"a.x", "c.x", "d.x"}
    folder.clear()
    assert files(tmp_path) == set()


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    partial = tmp_path / f"{PARTIAL_PREFIX}999999999-x{PARTIAL_SUFFIX}"
    partial.write_bytes(b"half")
    store(tmp_path).put("a", embeddings(1))
    assert not partial.exists()


def test_without_a_place_to_write_nothing_is_kept_and_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    nowhere = store(tmp_path / "file")
    nowhere.put("a", embeddings(1))
    assert nowhere.get("a") is None


def test_numbers_that_are_none_are_not_kept(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    store(folder).put("a", embeddings(float("nan")))
    assert not folder.exists()


def test_a_cache_finds_what_an_earlier_engine_kept(tmp_path: Path) -> None:
    EmbeddingCache(kept=store(tmp_path)).put("a", embeddings(1))
    cache = EmbeddingCache(kept=store(tmp_path))
    assert not cache.needs_text_encoder(("a",))
    assert cache.needs_text_encoder(("a", "b"))
    shutil.rmtree(tmp_path)
    found = cache.get("a")  # In RAM since it was asked for.
    assert found is not None
    assert torch.equal(found, embeddings(1))
    assert EmbeddingCache().needs_text_encoder(("a",))


def identity(folder: Path, runs_as: Iterable[str] = RUNS_AS) -> str:
    return encoder_identity(inspect_model_folder(folder), runs_as=runs_as)


def test_an_encoder_is_the_same_wherever_it_lies(model: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(model, moved)  # With the files' times.
    assert identity(moved) == identity(model)
    # What the encoder does not depend on does not matter.
    weights = next((moved / "transformer").glob("*.safetensors"))
    os.utime(weights, ns=(0, 0))
    assert identity(moved) == identity(model)


def test_whatever_changes_the_embeddings_changes_the_identity(model: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(model, moved)
    info: ModelInfo = inspect_model_folder(moved)
    seen = {encoder_identity(info, runs_as=RUNS_AS)}

    def is_new(**changes: object) -> bool:
        count = len(seen)
        seen.add(encoder_identity(replace(info, **changes), runs_as=RUNS_AS))
        return len(seen) > count

    weights = next((moved / "text_encoder").glob("*.safetensors"))
    os.utime(weights, ns=(0, 1))
    assert is_new()
    content = weights.read_bytes()
    weights.write_bytes(content + b"\0")
    os.utime(weights, ns=(0, 1))
    assert is_new()
    # As large and as old as before, but other tensors.
    weights.write_bytes(content.replace(b"layers.0.", b"layers.9.", 1) + b"\0")
    os.utime(weights, ns=(0, 1))
    assert is_new()
    template = moved / "tokenizer" / "chat_template.jinja"
    template.write_text(template.read_text("utf-8") + " ", "utf-8")
    assert is_new()
    assert is_new(text_out_layers=(0, 1, 2))
    for runs_as in (("cpu", "fp8"), ("cuda", "bf16"), ("cpu", "bf16", ""), ("cpubf16",)):
        seen.add(encoder_identity(info, runs_as=runs_as))
    assert len(seen) == 10
    assert not is_new()


def test_parts_of_a_key_cannot_be_mistaken_for_each_other() -> None:
    assert prompt_key("a", "bc") != prompt_key("ab", "c")
    assert prompt_key("a", "\udc80") != prompt_key("a", "?")
