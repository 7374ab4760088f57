"""The tracker counts what is alive, to the block, and lets go when the last reference goes."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from app.engine.live_storages import LiveStorages, block_bytes


def test_blocks_are_those_of_the_allocator():
    assert [block_bytes(size) for size in (0, 1, 512, 513)] == [0, 512, 512, 1024]


def test_a_storage_counts_until_its_last_view_ends():
    storages = LiveStorages()
    inputs = torch.ones(4, 256)
    with storages:
        made = inputs * 2
        view = made[1:]
        other = made + view[0]
    assert storages.held_bytes == 2 * 4096
    del made
    assert storages.held_bytes == 2 * 4096
    del view
    assert storages.held_bytes == 4096
    del other
    assert storages.held_bytes == 0
    assert storages.peak_bytes == 2 * 4096
    storages.reset_peak()
    assert storages.peak_bytes == 0


def test_what_was_there_before_is_not_counted():
    storages = LiveStorages()
    weight = torch.nn.Linear(256, 256)
    inputs = torch.ones(4, 256)
    with torch.no_grad(), storages:
        inputs.add_(1)
        inputs.view(8, 128)
        outputs = weight(inputs)
    assert storages.held_bytes == storages.peak_bytes == outputs.nbytes


def test_a_tensor_can_be_counted_and_forgotten():
    storages = LiveStorages()
    tensor = torch.ones(128)
    storages.count(tensor)
    storages.count(tensor)
    assert storages.counts(tensor)
    assert storages.held_bytes == 512
    storages.forget(tensor)
    storages.forget(tensor)
    assert storages.held_bytes == 0
    del tensor
    assert storages.held_bytes == 0


def test_the_result_is_not_counted_when_it_is_refused():
    class Refusing(LiveStorages):
        def before_result(self, func, args, kwargs, result, new_bytes):
            if new_bytes > 1000:
                raise torch.OutOfMemoryError

    storages = Refusing()
    with storages:
        with pytest.raises(torch.OutOfMemoryError):
            torch.ones(1000)
        kept = torch.ones(10)
    assert storages.held_bytes == block_bytes(kept.nbytes)
    assert storages.peak_bytes == 512


def test_tensors_without_data_are_counted_alike():
    storages = LiveStorages()
    with FakeTensorMode(), storages:
        made = torch.empty(1024, 1024)
        product = made @ made
        assert storages.held_bytes == 2 * made.nbytes
        del made
        assert storages.held_bytes == product.untyped_storage().nbytes()
