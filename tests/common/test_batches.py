"""Rows in batches: what is a dataset, in which order it is read, and where its errors are."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from skmode._common import batches
from skmode._common.batches import is_dataset, open_batches, read_columns


def write(folder, **tables):
    folder.mkdir(exist_ok=True)
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    return ds.dataset(folder)


def test_only_what_can_be_read_in_batches_is_a_dataset(tmp_path):
    table = pa.table({"a": [1]})
    assert is_dataset(write(tmp_path, one={"a": [1]}))
    assert is_dataset(lambda: table.to_batches())
    assert not is_dataset(table)
    assert not is_dataset(pd.DataFrame({"a": [1]}))
    assert not is_dataset(np.ones((2, 2)))
    with pytest.raises(TypeError, match="which can be read once: pass a function"):
        open_batches(table.to_reader())


def test_blocks_have_the_rows_in_order_and_know_where_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "BLOCK_ROWS", 256)
    monkeypatch.setattr(batches, "BLOCK_NUMBERS", 256)
    dataset = write(tmp_path, one={"a": range(300), "b": range(300)}, two={"a": [7], "b": [8]})
    blocks = list(open_batches(dataset).blocks(["b"]))
    assert [block.start for block in blocks] == [0, 256, 0]
    assert blocks[1].batch.column(0).to_pylist() == list(range(256, 300))
    assert blocks[2].place.endswith("two.parquet")


def test_folders_feather_filters_and_functions(tmp_path):
    table = pa.table({"a": [1, 2, 3], "year": [2020, 2020, 2021]})
    ds.write_dataset(
        table,
        tmp_path / "years",
        format="parquet",
        partitioning=["year"],
        partitioning_flavor="hive",
    )
    years = ds.dataset(tmp_path / "years", partitioning="hive")
    for found in read_columns(years, ["year"], "y"):
        np.testing.assert_array_equal(found, [2020, 2020, 2021])
    (tmp_path / "feather").mkdir()
    feather.write_feather(table, tmp_path / "feather" / "one.feather")
    dataset = ds.dataset(tmp_path / "feather", format="feather")
    for X in (dataset, lambda: table.to_batches(), table.to_reader, ds.dataset(table)):
        np.testing.assert_array_equal(read_columns(X, ["a"], "y")[0], [1, 2, 3])
    filtered = dataset.filter(ds.field("a") > 1)
    np.testing.assert_array_equal(read_columns(filtered, ["a"], "y")[0], [2, 3])
    with pytest.raises(ValueError, match="at least one row to read, got none in a dataset of 1"):
        read_columns(dataset.filter(ds.field("a") > 5), ["a"], "y")


def test_an_error_names_the_first_row_that_raises_it(tmp_path):
    def check(batch):
        if 77 in batch.column(0).to_pylist():
            raise ValueError("77 is wrong")

    values = [0] * 200
    values[150] = values[190] = 77
    (block,) = open_batches(write(tmp_path, one={"a": values})).blocks(["a"])
    with pytest.raises(ValueError, match=r"one\.parquet, row 150 \(from 0\): 77 is wrong"):
        block.apply(check)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"a": ["x"], "b": [1]}, r"got string in column 'a' of File .*two\.parquet, and int64 in"),
        ({"b": [1]}, r"got none named 'a' in File .*two\.parquet"),
    ],
)
def test_files_have_the_same_columns(tmp_path, second, message):
    dataset = write(tmp_path, one={"a": [1], "b": [1]}, two=second)
    with pytest.raises(ValueError, match=message):
        open_batches(dataset)
    tables = [pa.table({"a": [1], "b": [1]}), pa.table(second)]
    with pytest.raises(ValueError, match="got none named 'a' in batch 1|got string in column 'a'"):
        list(open_batches(lambda: iter(tables)).blocks(["b"]))


def test_the_index_of_pandas_is_no_column(tmp_path):
    pd.DataFrame({"a": [1, 2]}, index=[5, 3]).to_parquet(tmp_path / "one.parquet")
    dataset = ds.dataset(tmp_path)
    assert dataset.schema.names == ["a", "__index_level_0__"]
    assert list(open_batches(dataset).types) == ["a"]


def test_numbers_of_several_widths_and_empty_columns_are_one_kind(tmp_path):
    missing = pa.table({"a": pa.nulls(1)})["a"]
    dataset = write(
        tmp_path, one={"a": missing}, three={"a": [0.5]}, two={"a": pa.array([2], "i4")}
    )
    (found,) = read_columns(dataset, ["a"], "y")
    assert found.tolist()[1:] == [0.5, 2]


def test_a_folder_without_rows_and_a_damaged_file(tmp_path):
    with pytest.raises(ValueError, match="at least one row to read"):
        read_columns(write(tmp_path / "a", one={"a": pa.array([], "i4")}), ["a"], "y")
    with pytest.raises(ValueError, match="got no batch from the function"):
        open_batches(lambda: iter([]))
    with pytest.raises(TypeError, match="must return record batches, got int"):
        open_batches(lambda: 3)
    dataset = write(tmp_path / "b", one={"a": np.random.default_rng(0).random(5000)})
    path = tmp_path / "b" / "one.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + bytes(100) + whole[104:])
    with pytest.raises(OSError, match=r"one\.parquet must be readable"):
        read_columns(dataset, ["a"], "y")


def test_chosen_row_groups_of_a_file(tmp_path):
    pq.write_table(pa.table({"a": range(100)}), tmp_path / "one.parquet", row_group_size=10)
    whole = ds.dataset(tmp_path)
    (fragment,) = whole.get_fragments()

    def chosen(*groups):
        parts = [fragment.subset(row_group_ids=groups)]
        return ds.FileSystemDataset(parts, whole.schema, whole.format, whole.filesystem)

    (found,) = read_columns(chosen(1, 3), ["a"], "y")
    assert found.tolist() == [*range(10, 20), *range(30, 40)]
    assert next(open_batches(chosen(1)).blocks(["a"])).place.endswith("in the chosen row groups)")
    assert open_batches(chosen(1)).identity() != open_batches(chosen(2)).identity()


def test_long_filters_are_told_apart(tmp_path):
    """Their texts leave out what is in the middle of a list."""
    dataset = write(tmp_path, one={"a": range(100)})
    values = list(range(100))
    identities = [
        open_batches(dataset.filter(ds.field("a").isin(each))).identity()
        for each in (values, [*values[:50], 200, *values[51:]], values)
    ]
    assert identities[0] == identities[2] != identities[1]


def test_a_function_that_returns_the_same_iterator_again():
    """Its first rows are gone, so predictions of the others would be taken for those of all."""
    table = pa.table({"a": range(10)})
    generator = (batch for batch in table.to_batches(2))
    reader = table.to_reader(2)
    for opened in (generator, reader):
        with pytest.raises(ValueError, match="returned the same .* again: let it open its batches"):
            read_columns(lambda opened=opened: opened, ["a"], "y")


def test_a_column_without_a_type_in_the_first_batch():
    tables = [pa.table({"a": pa.nulls(2), "b": pa.nulls(2)}), pa.table({"a": ["01"], "b": [None]})]
    source = open_batches(lambda: iter(tables))
    blocks = list(source.blocks(["a"]))
    assert {str(block.batch.schema.field("a").type) for block in blocks} == {"string"}
    tables.append(pa.table({"a": [1], "b": [1]}))
    with pytest.raises(ValueError, match="got int64 in column 'a' of Batch 2"):
        list(open_batches(lambda: iter(tables)).blocks(["a"]))


def test_a_filter_does_not_hold_a_row_group_twice(tmp_path):
    columns = {name: np.random.default_rng(0).random(500_000) for name in "abcdefgh"}
    pq.write_table(pa.table(columns), tmp_path / "one.parquet", row_group_size=500_000)
    columns.clear()
    source = open_batches(ds.dataset(tmp_path).filter(ds.field("a") >= 0))
    before, most = pa.total_allocated_bytes(), 0
    for _ in source.blocks(list("abcdefgh")):
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 1.5 * 8 * 8 * 500_000  # bytes of the row group
