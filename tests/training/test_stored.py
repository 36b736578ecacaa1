"""Rows in a file: every pass visits each once, in an order of its own."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skmode._training.rows import stored as stored_module
from skmode._training.rows.stored import Layout, Stored, StoredRows, Writer


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(stored_module, "SHARD_ROWS", 16)
    monkeypatch.setattr(stored_module, "BUFFER_ROWS", 32)


def store(path, n_rows, n_beside=0, *, weighted=True):
    """Rows whose parts all tell their number; the last ones stay in memory."""
    layout = Layout(1, 1, 300, 0, weighted)
    stored = Stored(path, layout, n_rows - n_beside)
    writer = Writer(stored, np.random.default_rng(0))
    numbers = np.arange(n_rows)
    records = layout.records(
        numbers[:, None], numbers[:, None], numbers, numbers + 1 if weighted else None
    )
    for part in np.array_split(records[: n_rows - n_beside], 3):
        writer.add(part)
    writer.close()
    rows = StoredRows(stored, 2.0 if weighted else None)
    beside = rows.rows_of(records[n_rows - n_beside :]) if n_beside else None
    return StoredRows(stored, rows.mean_weight, beside)


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    n_rows=st.integers(1, 100),
    batch_size=st.integers(1, 40),
    shuffle=st.booleans(),
    beside=st.integers(0, 30),
)
def test_batches_visit_every_row_once(tmp_path, small_shards, n_rows, batch_size, shuffle, beside):
    rows = store(tmp_path / "rows.bin", n_rows + beside, beside)
    batches = rows.batches(batch_size, shuffle=shuffle)
    seen = list(batches)
    assert len(seen) == len(batches)
    assert all(len(batch) == batch_size for batch in seen[:-1])
    assert len(seen[-1]) > 1 or n_rows + beside == 1 or batch_size == 1
    target = torch.cat([batch.target for batch in seen])
    np.testing.assert_array_equal(target.sort().values, np.arange(n_rows + beside))
    for batch in seen:
        np.testing.assert_array_equal(batch.inputs[0][:, 0], batch.target)
        np.testing.assert_array_equal(batch.inputs[1][:, 0], batch.target)
        np.testing.assert_array_equal(batch.sample_weight, (batch.target + 1) / 2)


def test_passes_differ_and_shards_are_random_samples(tmp_path, small_shards):
    rows = store(tmp_path / "rows.bin", 640)
    generator = torch.Generator().manual_seed(0)
    passes = [
        torch.cat([batch.target for batch in rows.batches(10, shuffle=True, generator=generator)])
        for _ in range(2)
    ]
    assert not passes[0].equal(passes[1])
    # In the order of the file a tenth of a pass would hold rows next to each other.
    for part in itertools.chain(rows.parts(), [rows.sample]):
        target = part.target.double()
        assert abs(target.mean() - 320) < 200
        assert target.std() > 120
    again = rows.batches(10, shuffle=True, generator=torch.Generator().manual_seed(0))
    assert torch.cat([batch.target for batch in again]).equal(passes[0])


def test_small_parts_are_mixed_before_they_are_dealt(tmp_path, small_shards):
    """Else parts of one class each would make shards of one class each."""
    layout = Layout(0, 0, 0, 0, weighted=False)
    stored = Stored(tmp_path / "rows.bin", layout, 128)
    writer = Writer(stored, np.random.default_rng(0))
    for label in np.arange(128) % 2:
        writer.add(layout.records(*np.empty((2, 1, 0)), np.array([label]), None))
    writer.close()
    shares = [stored.shard(i)["target"].mean() for i in range(stored.n_shards)]
    assert len(shares) == 8
    assert 0.1 < min(shares) < max(shares) < 0.9
    assert np.mean(shares) == 0.5


def test_a_pass_can_be_left_early(tmp_path, small_shards):
    rows = store(tmp_path / "rows.bin", 200, weighted=False)
    (first,) = itertools.islice(rows.batches(8, shuffle=True), 1)
    assert len(first) == 8
    assert first.sample_weight is None


def test_a_disk_that_is_too_small(tmp_path, monkeypatch):
    stored = Stored(tmp_path / "rows.bin", Layout(20, 0, 0, 0, False), 10**15)
    with pytest.raises(OSError, match="MiB free for .* MiB: name a folder on a larger disk"):
        Writer(stored, np.random.default_rng(0))
    assert not stored.path.exists()
    stored = Stored(tmp_path / "rows.bin", Layout(1, 0, 0, 0, False), 4)
    writer = Writer(stored, np.random.default_rng(0))
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(stored_module, "SHARD_ROWS", 2)
    with monkeypatch.context() as patch:
        patch.setattr(writer, "_file", type("Full", (), {"seek": _raise(full)})())
        with pytest.raises(OSError, match=r"No space left on device.*on a larger disk"):
            writer.add(np.zeros(2, stored.layout.dtype))
    # Python keeps a few bytes back until the end.
    writer.add(np.zeros(1, stored.layout.dtype))
    monkeypatch.setattr(writer, "_file", type("Full", (), {"seek": _raise(full)})())
    with pytest.raises(OSError, match=r"No space left on device.*on a larger disk"):
        writer.close()


def test_rows_that_change_between_the_passes(tmp_path):
    stored = Stored(tmp_path / "rows.bin", Layout(1, 0, 0, 0, False), 4)
    writer = Writer(stored, np.random.default_rng(0))
    writer.add(np.zeros(3, stored.layout.dtype))
    with pytest.raises(ValueError, match="the same each time they are read, got 3 after 4"):
        writer.close()


def _raise(error):
    def method(self, *args):
        raise error

    return method
