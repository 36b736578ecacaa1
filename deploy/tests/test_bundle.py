import json
import os
import random

import pytest

from skmode_deploy import BundleError, bundle, load


@pytest.fixture
def manifest(table_bundle):
    return bundle.read(table_bundle)


def test_what_is_written_is_read(table_bundle, manifest):
    assert manifest.schema_version == bundle.SCHEMA_VERSION
    assert manifest.columns[1].categories == ("Bern", "Köln")
    assert manifest.classes.values == (10, 20, 30, 40)
    assert sorted(manifest.files) == ["gate.onnx", "model.onnx"]
    assert bundle.Manifest.from_json(manifest.to_json()) == manifest
    assert bundle.read_file(table_bundle, manifest, "gate.onnx") == b"gate"


def test_writing_replaces_a_bundle_as_a_whole(table_bundle, manifest):
    (table_bundle / "stray").write_text("left by someone")
    bundle.write(table_bundle, manifest, {"model.onnx": b"new"})
    assert sorted(path.name for path in table_bundle.iterdir()) == ["manifest.json", "model.onnx"]
    assert [path.name for path in table_bundle.parent.iterdir()] == ["table"]


def test_writing_replaces_a_bundle_without_an_atomic_exchange(table_bundle, manifest, monkeypatch):
    monkeypatch.setattr(bundle, "_exchange", lambda first, second: False)
    bundle.write(table_bundle, manifest, {"model.onnx": b"new"})
    assert bundle.read_file(table_bundle, bundle.read(table_bundle), "model.onnx") == b"new"
    assert [path.name for path in table_bundle.parent.iterdir()] == ["table"]


@pytest.mark.parametrize("function", ["_write_file", "_sync_directory", "_replace_directory"])
def test_a_failure_leaves_the_old_bundle(function, table_bundle, manifest, monkeypatch):
    before = {path.name: path.read_bytes() for path in table_bundle.iterdir()}

    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(bundle, function, fail)
    with pytest.raises(OSError, match="disk full"):
        bundle.write(table_bundle, manifest, {"model.onnx": b"new"})
    assert {path.name: path.read_bytes() for path in table_bundle.iterdir()} == before
    assert [path.name for path in table_bundle.parent.iterdir()] == ["table"]


def test_a_link_to_a_bundle_stays_a_link(table_bundle, manifest, tmp_path):
    link = tmp_path / "current"
    link.symlink_to(table_bundle)
    bundle.write(link, manifest, {"model.onnx": b"new"})
    assert link.is_symlink()
    assert (table_bundle / "model.onnx").read_bytes() == b"new"


def test_other_folders_are_not_replaced(tmp_path, manifest):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").write_text("years of work")
    with pytest.raises(FileExistsError, match="must be new, empty or a bundle"):
        bundle.write(tmp_path / "thesis", manifest, {})
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileExistsError, match="must be new, empty or a bundle"):
        bundle.write(tmp_path / "file", manifest, {})
    (tmp_path / "empty").mkdir()
    bundle.write(tmp_path / "empty", manifest, {"a": b"1"})
    assert bundle.read(tmp_path / "empty").files["a"].size == 1


@pytest.mark.parametrize(
    "name", ["../model", "/model", "a/b", "a\\b", "c:model", "", "..", "manifest.json"]
)
def test_files_with_paths_are_refused(name, table_bundle, manifest):
    with pytest.raises(BundleError, match="plain name"):
        bundle.write(table_bundle, manifest, {name: b""})
    document = json.loads(manifest.to_json())
    document["files"][name] = document["files"]["gate.onnx"]
    with pytest.raises(BundleError, match="plain name"):
        bundle.read_file(table_bundle, bundle.Manifest.from_json(json.dumps(document)), name)


def test_damaged_files_are_refused(table_bundle):
    path = table_bundle / "model.onnx"
    data = path.read_bytes()
    generator = random.Random(0)
    for _ in range(50):
        position = generator.randrange(len(data))
        changed = bytearray(data)
        changed[position] ^= 1 << generator.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(BundleError, match="sha256"):
            load(table_bundle)
    path.write_bytes(data[:-1])
    with pytest.raises(BundleError, match=f"must have the {len(data)} bytes"):
        load(table_bundle)
    path.unlink()
    with pytest.raises(BundleError, match="copy the whole bundle again"):
        load(table_bundle)


def test_links_are_refused(table_bundle, tmp_path):
    (table_bundle / "model.onnx").rename(tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", table_bundle / "model.onnx")
    with pytest.raises(BundleError, match="it is a link"):
        load(table_bundle)


def test_unknown_files_are_refused(table_bundle, manifest):
    with pytest.raises(BundleError, match=r"must be named in manifest\.json"):
        bundle.read_file(table_bundle, manifest, "other.onnx")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a JSON object"),
        ("[]", "must be a JSON object"),
        ("{}", "schema_version"),
        ('{"schema_version": 99}', "must have schema_version 1, got 99"),
        ('{"schema_version": 1}', "must have the fields"),
    ],
)
def test_broken_manifests_are_refused(text, message, table_bundle):
    (table_bundle / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match=message):
        load(table_bundle)


def test_a_folder_without_manifest_is_refused(tmp_path):
    with pytest.raises(BundleError, match=r"folder that skmode\.onnx\.export wrote"):
        load(tmp_path)
