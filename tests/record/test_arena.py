"""The memory blocks for copies of recorded tensors."""

import gc
import weakref

import pytest
import torch

from attributor._record.arena import BLOCK, Arena
from attributor._record.tape import KeptTensor


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_copies_are_equal_disjoint_and_contiguous(dtype):
    arena = Arena()
    given = [torch.randn(1, 3, 16_000 + 7 * i, 4).to(dtype).transpose(1, 2) for i in range(40)]
    copies = [arena.copy(tensor) for tensor in given]
    for tensor, copy in zip(given, copies, strict=True):
        assert copy.is_contiguous()
        assert copy.data_ptr() % 64 == 0
        assert torch.equal(copy, tensor)
    assert len({copy.untyped_storage().data_ptr() for copy in copies}) == -(-sum(c.nbytes for c in copies) // BLOCK)


def test_tensors_that_gain_nothing_are_not_copied():
    arena = Arena()
    assert arena.copy(torch.zeros(100)) is None
    assert arena.copy(torch.zeros(BLOCK // 4 + 1)) is None  # 4 bytes each: such a tensor gets its own block anyway
    assert arena.copy(torch.zeros(BLOCK, device="meta")) is None


def test_a_block_is_freed_with_its_last_tensor():
    arena = Arena()
    first, second = (arena.copy(torch.zeros(BLOCK // 16)) for _ in range(2))
    block = weakref.ref(arena._block.untyped_storage())
    assert first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
    del arena, first
    gc.collect()
    assert second.sum() == 0
    del second
    gc.collect()
    assert block() is None


def test_a_held_copy_is_independent_of_the_original():
    tensor = torch.zeros(1 << 16)
    held = KeptTensor(tensor, Arena())
    other = KeptTensor(torch.ones(1 << 16), held_arena := Arena())
    assert held_arena.copy(torch.ones(1 << 16)) is not None  # writes beside `other`, which does not change
    tensor += 1
    assert held.get().sum() == 0
    assert other.get().sum() == 1 << 16
    assert held.nbytes == tensor.nbytes
