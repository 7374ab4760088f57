"""Any kind of weight can be packed into one buffer, and used from any copy of that buffer."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from app.engine.residency.layout import ALIGNMENT_BYTES
from app.engine.residency.leaves import ModuleTensors, take_apart
from tests.fakes.weight_kinds import Packed4, Scaled


class Block(torch.nn.Module):
    """Weights of all kinds, some shared, some not contiguous."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(3, 3)
        self.second = torch.nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight
        self.narrow = torch.nn.Linear(5, 7, dtype=torch.bfloat16)
        turned = torch.nn.Parameter(torch.randn(4, 6).t(), requires_grad=False)
        self.turned = torch.nn.Linear(4, 6)
        self.turned.weight = turned
        self.wrapped = torch.nn.Parameter(
            Scaled(torch.randint(-127, 127, (4, 5), dtype=torch.int8), torch.rand(4, 1), "rows"),
            requires_grad=False,
        )
        self.packed = Packed4.made(torch.randint(0, 255, (9,), dtype=torch.uint8), 4)
        self.scale: torch.Tensor
        self.count: torch.Tensor
        self.register_buffer("scale", torch.ones(3))
        self.register_buffer("count", torch.tensor(7))
        self.register_buffer("nothing", None)


def parts_of(module: torch.nn.Module) -> list[torch.Tensor]:
    tensors = [*module.parameters(), *module.buffers()]
    return [part for tensor in tensors for part in take_apart(tensor)[0].values()]


def copied(parts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [part.clone() for part in parts]


def same(parts: Sequence[torch.Tensor], others: Sequence[torch.Tensor]) -> bool:
    return all(
        part.dtype == other.dtype and part.stride() == other.stride() and torch.equal(part, other)
        for part, other in zip(parts, others, strict=True)
    )


def packed(tensors: ModuleTensors) -> torch.Tensor:
    buffer = torch.full((tensors.layout.size_bytes,), 0xAB, dtype=torch.uint8)
    tensors.pack_into(buffer)
    return buffer


def test_a_packed_block_is_the_same_block():
    block = Block()
    before = copied(parts_of(block))
    tensors = ModuleTensors(block)
    buffer = packed(tensors)
    assert same(parts_of(block), before)  # Packing changes nothing.
    tensors.bind(buffer).apply()
    begin, end = buffer.data_ptr(), buffer.data_ptr() + buffer.numel()
    after = parts_of(block)
    assert same(after, before)
    assert all(begin <= part.data_ptr() < end for part in after)
    assert block.second.weight is block.first.weight
    assert isinstance(block.first.weight, torch.nn.Parameter)
    assert isinstance(block.packed, Packed4)
    assert block.packed.width == 4
    assert isinstance(block.wrapped, torch.nn.Parameter)
    wrapped: Any = block.wrapped
    assert isinstance(wrapped, Scaled)
    assert wrapped.word == "rows"
    assert int(block.count) == 7
    assert block.turned.weight.stride() == (1, 6)


def test_a_block_follows_its_binding_from_buffer_to_buffer():
    block = Block()
    inputs = torch.randn(2, 3)
    expected = block.second(block.first(inputs))
    tensors = ModuleTensors(block)
    here = packed(tensors)
    there = torch.zeros_like(here)
    home, away = tensors.bind(here), tensors.bind(there)
    away.apply()
    assert not block.second(block.first(inputs)).any()
    there.copy_(here)
    assert torch.equal(block.second(block.first(inputs)), expected)
    home.apply()
    there.fill_(0)
    assert torch.equal(block.second(block.first(inputs)), expected)
    away.apply()
    first = [id(one) for one in block.parameters()]
    home.apply()
    away.apply()
    assert [id(one) for one in block.parameters()] == first  # The very same, made once.


def test_tensors_lie_apart_in_the_order_of_their_names():
    tensors = ModuleTensors(Block())
    spans = tensors.layout.spans
    names = [span.name for span in spans]
    assert names[:2] == ["wrapped.levels", "wrapped.steps"]
    assert "first.weight" in names
    assert "second.weight" not in names  # Shared: there once.
    assert "packed.data" in names
    ends = [0]
    for span in spans:
        assert span.offset_bytes % ALIGNMENT_BYTES == 0
        assert span.offset_bytes >= ends[-1]
        ends.append(span.offset_bytes + span.nbytes)
    assert tensors.layout.size_bytes % ALIGNMENT_BYTES == 0
    assert tensors.layout.size_bytes - ends[-1] < ALIGNMENT_BYTES


def test_a_layout_can_be_made_without_weights():
    real = ModuleTensors(torch.nn.Linear(5, 7, dtype=torch.bfloat16)).layout
    with torch.device("meta"):
        skeleton = torch.nn.Linear(5, 7, dtype=torch.bfloat16)
    assert ModuleTensors(skeleton).layout == real
    tensors = ModuleTensors(skeleton, layout=real)
    tensors.bind(torch.zeros(real.size_bytes, dtype=torch.uint8)).apply()
    assert not skeleton(torch.ones(5, dtype=torch.bfloat16)).any()


def test_modules_and_names_can_be_left_out():
    block = Block()
    without = ModuleTensors(block, without=[block.narrow, block.turned])
    assert not any(span.name.startswith(("narrow", "turned")) for span in without.layout.spans)
    before = block.narrow.weight
    kept = ModuleTensors(block, layout=without.layout)
    kept.bind(packed(kept)).apply()
    assert block.narrow.weight is before
    with pytest.raises(KeyError, match=r"narrow\.weight"):
        ModuleTensors(block.first, layout=ModuleTensors(block).layout)


def test_a_kind_that_nobody_knows_is_refused():
    class Strange(torch.Tensor):
        """Neither plain nor known."""

    with pytest.raises(TypeError, match="Strange"):
        take_apart(torch.ones(2).as_subclass(Strange))
