import sys

import pyarrow as pa
import pytest
from pyarrow import parquet

from skmode_deploy import bundle
from skmode_deploy.running.tables.chunks import ReadOptions
from skmode_deploy.running.tables.errors import InputError
from skmode_deploy.running.tables.parquet_files import ParquetReader, import_parquet


def read(path, manifest):
    with path.open("rb") as stream:
        return list(ParquetReader(stream, manifest, ReadOptions(), name=str(path)))


def write(path):
    table = pa.table({"age": [1.0] * 5000, "city": ["Bern"] * 5000, "plan": [1.0] * 5000})
    parquet.write_table(table, path, use_dictionary=False)
    return path


@pytest.mark.parametrize("damage", ["text", "end", "footer"])
def test_messages_name_the_file(damage, table_bundle, tmp_path):
    path = write(tmp_path / "rows.parquet")
    whole = path.read_bytes()
    path.write_bytes(
        {
            "text": b"age,city\n1,Bern\n",
            "end": whole[:-9],
            "footer": whole[:-300] + b"\xff" * 200 + whole[-100:],
        }[damage]
    )
    with pytest.raises(InputError, match=r"rows\.parquet' must be a Parquet file") as error:
        read(path, bundle.read(table_bundle))
    assert not str(error.value).endswith("..")
    assert "object at 0x" not in str(error.value)


def test_damaged_pages(table_bundle, tmp_path):
    path = write(tmp_path / "rows.parquet")
    whole = bytearray(path.read_bytes())
    whole[100:300] = b"\xff" * 200
    path.write_bytes(whole)
    with pytest.raises(InputError, match="Row 1 must be readable, but reading it failed: "):
        read(path, bundle.read(table_bundle))


def test_without_pyarrow(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"extra 'parquet' of skmode-deploy \(in a checkout: "):
        import_parquet()
