"""Rows in memory and their batches."""

import itertools
import weakref

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from skmode._training.evaluation import evaluate
from skmode._training.rows import Batches, Rows


def numbered_rows(n):
    return Rows(
        (torch.arange(n).double()[:, None], torch.arange(n)[:, None]),
        torch.arange(n),
        torch.arange(n).double(),
    )


@given(st.integers(1, 60), st.integers(1, 70), st.booleans())
def test_batches_visit_every_row_once(n, batch_size, shuffle):
    batches = Batches(numbered_rows(n), batch_size, shuffle)
    seen = list(batches)
    assert len(seen) == len(batches)
    assert all(len(batch) == batch_size for batch in seen[:-1])
    parts = ([*batch.inputs, batch.target, batch.sample_weight] for batch in seen)
    for part in zip(*parts, strict=True):
        assert_array_equal(torch.cat(part).flatten().sort().values, np.arange(n))
    for batch in seen:
        assert_array_equal(batch.target, batch.inputs[0][:, 0])
        assert_array_equal(batch.target, batch.inputs[1][:, 0])
        assert_array_equal(batch.target, batch.sample_weight)


def test_batches_are_shuffled_in_each_epoch():
    torch.manual_seed(0)
    batches = Batches(numbered_rows(50), 10, shuffle=True)
    first, second = (torch.cat([batch.target for batch in batches]) for _ in range(2))
    assert not torch.equal(first, torch.arange(50))
    assert not torch.equal(first, second)


@given(st.integers(1, 300), st.integers(1, 60))
def test_batches_hold_every_row_once(n_rows, batch_size):
    numbers = torch.arange(n_rows, dtype=torch.float32).reshape(-1, 1)
    rows = Rows((numbers, torch.zeros(n_rows, 0, dtype=torch.int64)), numbers, None)
    batches = list(Batches(rows, batch_size, shuffle=True))
    assert len(batches) == len(Batches(rows, batch_size, shuffle=True))
    found = torch.cat([batch.inputs[0] for batch in batches]).flatten().sort().values
    assert torch.equal(found, numbers.flatten())
    sizes = [len(batch) for batch in batches]
    assert set(sizes[:-1]) <= {batch_size}
    assert sizes[-1] <= batch_size + 1
    assert batch_size == 1 or n_rows == 1 or min(sizes) > 1


def test_rows_gathered_in_parts_are_those_of_the_whole_epoch(monkeypatch):
    rows = Rows((torch.arange(103).float()[:, None],), torch.arange(103), None)
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    whole = [batch.target.tolist() for batch in Batches(rows, 8, True, generators[0])]
    monkeypatch.setattr("skmode._training.rows.GATHERED_ROWS", 24)
    parts = [batch.target.tolist() for batch in Batches(rows, 8, True, generators[1])]
    assert parts == whole
    assert sorted(itertools.chain(*parts)) == list(range(103))


def test_evaluation_keeps_no_output_of_its_blocks():
    """Small arrays kept between the blocks' activations would hold on to their memory."""
    outputs, alive = [], []

    def function(module, inputs):
        alive.append(sum(output() is not None for output in outputs))
        output = inputs[0].double() + 1
        outputs.append(weakref.ref(output))
        return (output,)

    rows = Rows((torch.zeros(5000, 2),), torch.empty(0), None)
    (found,) = evaluate(torch.nn.Identity(), rows, function, "cpu", torch.float32)
    assert found.shape == (5000, 2)
    assert len(alive) == 5
    assert max(alive) <= 1
