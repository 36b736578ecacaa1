import dataclasses
import json
import os
import random
import signal
import sys
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import onnx
import pytest

from skmode_deploy import bundle, errors, load
from skmode_deploy.bundle import files as _files
from skmode_deploy.bundle import layout as _layout
from skmode_deploy.bundle import reading as _reading
from skmode_deploy.errors import BundleError

DOUBLE, INT64, STRING = 11, 7, 8  # as onnx numbers element types


@pytest.fixture
def manifest(table_bundle):
    return bundle.read(table_bundle)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def restate(folder, **changes):
    """Write a manifest with other fields, whose own checksum is right."""
    manifest = dataclasses.replace(bundle.read(folder), **changes)
    (folder / "manifest.json").write_text(manifest.to_json())


def test_round_trip(table_bundle, manifest):
    assert manifest.schema_version == bundle.SCHEMA_VERSION
    assert manifest.columns[1].categories == ("Bern", "Köln")
    assert manifest.classes.values == (10, 20, 30, 40)
    assert sorted(manifest.files) == [
        "README.md", "expert_0.onnx", "expert_1.onnx", "gate.onnx", "model.onnx",
    ]  # fmt: skip
    assert bundle.verify(table_bundle) == manifest
    for name in manifest.files:
        data = bundle.read_file(table_bundle, manifest, name)
        assert data == (table_bundle / name).read_bytes()


def test_the_writer_states_the_time_and_the_model_card(table_bundle, manifest, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    undated = dataclasses.replace(manifest, created="")
    written = bundle.write(table_bundle, undated, {"model.onnx": b"new"})
    assert written.created == "1970-01-01T00:00:00Z"
    assert "1970" in (table_bundle / "README.md").read_text()
    bundle.write(table_bundle, manifest, {"model.onnx": b"new", "README.md": b"my own"})
    assert (table_bundle / "README.md").read_bytes() == b"my own"
    assert bundle.read(table_bundle).created == manifest.created


def test_the_same_manifest_and_files_give_the_same_bytes(table_bundle, manifest, tmp_path):
    files = {name: (table_bundle / name).read_bytes() for name in manifest.files}
    del files["README.md"]
    bundle.write(tmp_path / "again", manifest, dict(reversed(files.items())))
    assert contents(tmp_path / "again") == contents(table_bundle)


def test_writing_replaces_a_bundle_as_a_whole(table_bundle, manifest):
    (table_bundle / "model.sig").write_text("signature of the old files")
    (table_bundle / f".model.sig-{16 * '0'}").write_text("left by a killed signer")
    bundle.write(table_bundle, manifest, {"model.onnx": b"new"})
    assert sorted(contents(table_bundle)) == ["README.md", "manifest.json", "model.onnx"]
    assert [path.name for path in table_bundle.parent.iterdir()] == ["table"]


def test_writing_replaces_a_bundle_without_an_atomic_exchange(table_bundle, manifest, monkeypatch):
    monkeypatch.setattr(_files, "_exchange", lambda first, second: False)
    bundle.write(table_bundle, manifest, {"model.onnx": b"new"})
    assert bundle.read_file(table_bundle, bundle.read(table_bundle), "model.onnx") == b"new"
    assert [path.name for path in table_bundle.parent.iterdir()] == ["table"]


@pytest.mark.parametrize("function", ["_write_file", "sync_directory", "_put_in_place"])
def test_a_failure_leaves_the_old_bundle(function, table_bundle, manifest, monkeypatch):
    before = contents(table_bundle)

    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(_files, function, fail)
    with pytest.raises(OSError, match="disk full"):
        bundle.write(table_bundle, manifest, {"model.onnx": b"new"})
    assert contents(table_bundle) == before
    assert [path.name for path in table_bundle.parent.iterdir()] == ["table"]


def write_for_ever(folder, manifest, first):
    for i in range(first, 10**9):
        notes = "even" if i % 2 else "odd"
        files = {f"part_{k}": notes.encode() * 5000 for k in range(6)}
        bundle.write(folder, dataclasses.replace(manifest, notes=notes), files)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux exchanges folders")
def test_a_killed_writer_leaves_the_old_bundle_or_the_new_one(table_bundle, manifest):
    generator = random.Random(0)
    seen, stale = set(), 0
    durations = []
    for _ in range(3):
        start = time.perf_counter()
        bundle.write(table_bundle, manifest, {f"part_{k}": b"" for k in range(6)})
        durations.append(time.perf_counter() - start)
    for attempt in range(400):
        # Stale folders of killed writers lie around from the second time on.
        child = os.fork()
        if child == 0:
            try:
                write_for_ever(table_bundle, manifest, attempt)
            finally:
                os._exit(1)
        time.sleep(generator.uniform(0, 6 * min(durations)))
        os.kill(child, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
        manifest = bundle.read(table_bundle)
        assert sorted(contents(table_bundle)) == sorted([*manifest.files, "manifest.json"])
        for name in manifest.files:
            data = bundle.read_file(table_bundle, manifest, name)
            assert not name.startswith("part_") or data == manifest.notes.encode() * 5000
        seen.add(manifest.notes)
        stale = len(list(table_bundle.parent.glob(".table-*")))
        if attempt >= 50 and stale > 10:  # on a busy machine many are killed before they write
            break
    assert {"even", "odd"} <= seen
    assert stale > 10  # so many were killed while they wrote
    bundle.write(table_bundle, manifest, {"model.onnx": b"new"})
    assert sorted(contents(table_bundle)) == ["README.md", "manifest.json", "model.onnx"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux exchanges folders")
def test_writers_at_the_same_time_leave_one_bundle(manifest, tmp_path):
    def write(i):
        notes = f"writer {i}"
        files = {"model.onnx": notes.encode(), "part": notes.encode()}
        bundle.write(target, dataclasses.replace(manifest, notes=notes), files)

    for attempt in range(10):
        target = tmp_path / f"new {attempt}"
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write, range(4)))
        written = bundle.read(target)
        for name in ("model.onnx", "part"):
            assert bundle.read_file(target, written, name) == written.notes.encode()
    assert not list(tmp_path.glob(".new*"))


def test_a_link_to_a_bundle_stays_a_link(table_bundle, manifest, tmp_path):
    link = tmp_path / "current"
    link.symlink_to(table_bundle)
    assert bundle.verify(link) == manifest
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


def test_a_foreign_manifest_json_is_not_a_bundle(tmp_path, manifest):
    """Browser extensions also have a manifest.json."""
    (tmp_path / "thesis").write_text("years of work")
    for number, document in enumerate(
        (
            {"name": "extension", "manifest_version": 3},
            {"schema_version": 1},
            {"schema_version": "1", "files": {"thesis": {"size": 1, "sha256": ""}}},
            {"schema_version": 1, "files": ["thesis"]},
            {"schema_version": 1, "files": {"thesis": "years of work"}},
            [],
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "manifest.json").write_text(json.dumps(document))
        (folder / "thesis").write_text("years of work")
        before = contents(folder)
        with pytest.raises(FileExistsError, match="must be new, empty or a bundle"):
            bundle.write(folder, manifest, {})
        (folder / "thesis").unlink()
        with pytest.raises(FileExistsError, match="must be new, empty or a bundle"):
            bundle.write(folder, manifest, {})
        assert contents(folder) == {"manifest.json": before["manifest.json"]}


def test_foreign_files_are_not_removed(table_bundle, manifest):
    (table_bundle / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"nothing but the files .* with 'notes\.txt': move"):
        bundle.write(table_bundle, manifest, {"model.onnx": b"new"})
    (table_bundle / "notes.txt").unlink()
    (table_bundle / "model.onnx").unlink()
    (table_bundle / "model.onnx").mkdir()
    (table_bundle / "model.onnx" / "thesis").write_text("years of work")
    with pytest.raises(FileExistsError, match="with 'model.onnx/': move"):
        bundle.write(table_bundle, manifest, {"model.onnx": b"new"})
    assert (table_bundle / "model.onnx" / "thesis").exists()


def test_bundles_of_other_versions_and_damaged_ones_are_replaced(table_bundle, manifest):
    path = table_bundle / "manifest.json"
    for version in (1, 3):
        document = json.loads(path.read_text())
        path.write_text(json.dumps(document | {"schema_version": version, "more": True}))
        (table_bundle / "model.onnx").unlink()
        bundle.write(table_bundle, manifest, {"model.onnx": b"new"})
        assert bundle.read(table_bundle).files.keys() == {"model.onnx", "README.md"}


def test_string_labels_are_written_with_their_own_length(table_bundle, manifest):
    """The labels in a part of the data may be shorter than the dtype of all of it."""
    classes = bundle.Classes(("a", "bcd", "e", "f"), "<U20", "value")
    written = bundle.write(table_bundle, dataclasses.replace(manifest, classes=classes), {})
    assert written.classes.dtype == "<U3"
    assert bundle.read(table_bundle) == written


def test_invalid_manifests_are_not_written(table_bundle, manifest, tmp_path):
    for changes in ({"alpha": float("nan")}, {"alpha": b"bytes"}, {"n_experts": 3}):
        with pytest.raises(errors.ManifestError):
            bundle.write(tmp_path / "new", dataclasses.replace(manifest, **changes), {})
    assert not (tmp_path / "new").exists()


UNSAFE_NAMES = [
    "../model", "/model", "a/b", "a\\b", "c:model", "", ".", "..", "manifest.json",
    "Manifest.JSON", "model.sig", "nul.onnx", "COM1", "a.", "a b", "a\0", "Köln", "-rf", "x" * 300,
]  # fmt: skip


@pytest.mark.parametrize("name", UNSAFE_NAMES)
def test_files_with_paths_are_refused(name, table_bundle, manifest):
    with pytest.raises(errors.UnsafeNameError, match="plain name"):
        bundle.write(table_bundle, manifest, {name: b""})
    files = manifest.files | {name: manifest.files["gate.onnx"]}
    restate(table_bundle, files=files)
    with pytest.raises(errors.UnsafeNameError, match="plain name"):
        bundle.read_file(table_bundle, bundle.read(table_bundle), name)
    with pytest.raises(errors.UnsafeNameError, match="plain name"):
        bundle.verify(table_bundle)


def test_names_that_differ_in_case_only_are_refused(table_bundle, manifest):
    with pytest.raises(errors.UnsafeNameError, match="got 'a' and 'A'"):
        bundle.write(table_bundle, manifest, {"a": b"", "A": b""})


@pytest.mark.parametrize("name", ["model.onnx", "README.md"])
def test_damaged_files_are_refused(name, table_bundle, manifest):
    path = table_bundle / name
    data = path.read_bytes()
    for check in (bundle.verify, lambda folder: bundle.read_file(folder, manifest, name)):
        path.write_bytes(b"x" * len(data))
        with pytest.raises(errors.FileHashError, match=r"sha256.*copy the whole bundle again"):
            check(table_bundle)
        for other in (data[:-1], data + b"x", b""):
            path.write_bytes(other)
            with pytest.raises(
                errors.FileSizeError, match=f"{len(data)} bytes that .* got {len(other)}"
            ):
                check(table_bundle)
        path.unlink()
        with pytest.raises(errors.MissingFileError, match="copy the whole bundle again"):
            check(table_bundle)


def test_a_file_that_grows_after_the_size_check_is_refused(table_bundle, manifest, monkeypatch):
    for name in ("model.onnx", "README.md"):
        with (table_bundle / name).open("ab") as stream:
            stream.write(b"more")
    old = table_bundle.parent / "old"
    monkeypatch.setattr(os, "fstat", lambda descriptor: os.stat(old))
    for name in ("model.onnx", "README.md"):
        old.write_bytes(b"x" * manifest.files[name].size)
        with pytest.raises(errors.FileSizeError, match=name):
            bundle.read_file(table_bundle, manifest, name)
        with pytest.raises(errors.FileSizeError, match=name):
            _reading._check_content(table_bundle, name, manifest.files[name])


def replace_by_link(path, aside):
    path.rename(aside)
    os.symlink(aside, path)


def replace_by_folder(path, aside):
    path.unlink()
    path.mkdir()


def replace_by_pipe(path, aside):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("name", ["model.onnx", "README.md", "manifest.json"])
@pytest.mark.parametrize(
    ("replace", "error", "message"),
    [
        (replace_by_link, errors.LinkError, "is a link"),
        (replace_by_folder, errors.NotAFileError, "is a folder"),
        pytest.param(
            replace_by_pipe,
            errors.NotAFileError,
            "is a pipe",
            marks=pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here"),
        ),
    ],
)
def test_anything_but_plain_files_is_refused(name, replace, error, message, table_bundle, tmp_path):
    replace(table_bundle / name, tmp_path / "elsewhere")
    with pytest.raises(error, match=f"'{name}'.*{message}"):
        bundle.verify(table_bundle)


def test_a_link_made_after_the_first_check_is_refused(table_bundle, tmp_path, monkeypatch):
    status = os.lstat(table_bundle / "model.onnx")
    replace_by_link(table_bundle / "model.onnx", tmp_path / "elsewhere")
    monkeypatch.setattr(os, "lstat", lambda path: status)
    with pytest.raises(errors.LinkError, match="is a link"):
        bundle.verify(table_bundle)


def test_hard_links_are_accepted(table_bundle, tmp_path, manifest):
    os.link(table_bundle / "model.onnx", tmp_path / "elsewhere")
    assert bundle.verify(table_bundle) == manifest


def test_unknown_files_are_refused(table_bundle, manifest):
    with pytest.raises(errors.MissingFileError, match=r"name must be a file in manifest\.json"):
        bundle.read_file(table_bundle, manifest, "other.onnx")


@pytest.mark.parametrize("lacking", ["gate.onnx", "expert_1.onnx", "model.onnx"])
def test_incomplete_bundles_are_refused(lacking, table_bundle, manifest):
    files = {name: file for name, file in manifest.files.items() if name != lacking}
    restate(table_bundle, files=files)
    with pytest.raises(errors.MissingFileError, match=f"one without {lacking}"):
        bundle.verify(table_bundle)


def test_gate_and_experts_are_optional(table_bundle, manifest):
    restate(table_bundle, files={"model.onnx": manifest.files["model.onnx"]})
    assert list(bundle.verify(table_bundle).files) == ["model.onnx"]


@pytest.mark.parametrize(
    "name", ["other.onnx", "expert_2.onnx", "expert_01.onnx", "expert_-1.onnx", "Model.onnx"]
)
def test_unknown_graph_names_raise(name, table_bundle, manifest):
    with pytest.raises(errors.GraphInterfaceError, match=r"expert_0\.onnx to expert_1\.onnx"):
        bundle.graph_interface(manifest, name)
    files = {name: (table_bundle / name).read_bytes() for name in manifest.files}
    files.pop("model.onnx")
    files[name] = b"graph"
    if name != "Model.onnx":
        files["model.onnx"] = (table_bundle / "model.onnx").read_bytes()
        bundle.write(table_bundle, manifest, files)
        with pytest.raises(errors.GraphInterfaceError, match=name):
            bundle.verify(table_bundle)


def test_graphs_are_checked_inside(table_bundle, manifest):
    files = {name: (table_bundle / name).read_bytes() for name in manifest.files}
    swapped = files | {"model.onnx": files["gate.onnx"], "gate.onnx": files["model.onnx"]}
    written = bundle.write(table_bundle, manifest, swapped)
    with pytest.raises(errors.GraphInterfaceError, match="must have the outputs"):
        bundle.verify(table_bundle)
    with pytest.raises(errors.GraphInterfaceError, match="must have the outputs"):
        bundle.read_graph(table_bundle, written, "model.onnx")
    assert bundle.read_graph(table_bundle, written, "expert_0.onnx") == files["expert_0.onnx"]


def test_limits(table_bundle, manifest, monkeypatch):
    total = sum(file.size for file in manifest.files.values())
    assert bundle.verify(table_bundle, max_bytes=total) == manifest
    with pytest.raises(errors.LimitError, match=f"at most {total - 1} bytes in total, got {total}"):
        bundle.verify(table_bundle, max_bytes=total - 1)
    monkeypatch.setattr(_layout, "MAX_FILES", 4)
    with pytest.raises(errors.LimitError, match="at most 4 files, got 5"):
        bundle.verify(table_bundle)
    monkeypatch.setattr(_layout, "MAX_MANIFEST_BYTES", 100)
    with pytest.raises(errors.LimitError, match="at most 100 bytes"):
        bundle.read(table_bundle)
    with pytest.raises(errors.LimitError, match="at most 100 bytes"):
        bundle.write(table_bundle.parent / "new", manifest, {"model.onnx": b""})
    assert not (table_bundle.parent / "new").exists()


@pytest.mark.parametrize("max_bytes", ["x", None, 0, -1, 1e9, True])
def test_limits_are_whole_numbers(max_bytes, table_bundle):
    with pytest.raises(ValueError, match="max_bytes must be an integer of at least 1, got"):
        bundle.verify(table_bundle, max_bytes=max_bytes)


def test_invalid_paths_raise(manifest):
    for call in (
        bundle.read,
        bundle.verify,
        lambda path: bundle.read_file(path, manifest, "model.onnx"),
        lambda path: bundle.write(path, manifest, {}),
    ):
        for path in (None, 1, b"folder"):
            with pytest.raises(TypeError, match=f"directory must be a path .*, got {path!r}: pass"):
                call(path)
        with pytest.raises(ValueError, match="got '': pass '.' for the current folder"):
            call("")


def test_absurd_sizes_take_no_memory(table_bundle, manifest):
    huge = dataclasses.replace(manifest.files["model.onnx"], size=2**62)
    restate(table_bundle, files=manifest.files | {"model.onnx": huge})
    with pytest.raises(errors.LimitError):
        bundle.verify(table_bundle)
    with pytest.raises(errors.FileSizeError):
        bundle.verify(table_bundle, max_bytes=2**63)


def test_other_files_are_hashed_in_flat_memory(table_bundle, manifest):
    files = {"model.onnx": (table_bundle / "model.onnx").read_bytes(), "big.bin": bytes(50 * 2**20)}
    bundle.write(table_bundle, manifest, files)
    del files
    tracemalloc.start()
    bundle.verify(table_bundle)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * 2**20


def test_the_schema_version_is_checked_first(table_bundle):
    text = (table_bundle / "manifest.json").read_text()
    (table_bundle / "model.onnx").unlink()
    for version, shown in ((99, "99"), (1, "1"), ("2", "'2'"), (True, "True"), (None, "None")):
        document = {"schema_version": version, "unknown": json.loads(text)}
        (table_bundle / "manifest.json").write_text(json.dumps(document))
        with pytest.raises(
            errors.SchemaVersionError, match=f"must have schema_version 2, got {shown}:"
        ):
            bundle.verify(table_bundle)


def test_a_manifest_other_than_the_signed_one_is_refused(table_bundle, manifest):
    digest = manifest.file_hash()
    assert bundle.verify(table_bundle, sha256=digest) == manifest
    restate(table_bundle, notes="other")
    with pytest.raises(errors.ManifestChangedError, match=f"{digest} that was signed"):
        bundle.verify(table_bundle, sha256=digest)


def test_a_folder_without_manifest_is_refused(tmp_path):
    with pytest.raises(errors.MissingFileError, match=r"folder that skmode\.onnx\.export wrote"):
        bundle.verify(tmp_path)
    with pytest.raises(errors.MissingFileError, match=r"folder that skmode\.onnx\.export wrote"):
        bundle.verify(tmp_path / "nowhere")


def test_each_refusal_is_a_bundle_error():
    # An InferenceError is about rows, not about the bundle.
    kinds = [getattr(errors, name) for name in errors.__all__ if name != "InferenceError"]
    assert all(issubclass(kind, BundleError) and issubclass(kind, ValueError) for kind in kinds)
    assert bundle.BundleError is BundleError


def with_value(data, where, name, **changes):
    """A graph that declares another type for one of its inputs or outputs."""
    model = onnx.load_from_string(data)
    (value,) = (value for value in getattr(model.graph, where) if value.name == name)
    tensor = value.type.tensor_type
    old = [size.dim_value or size.dim_param for size in tensor.shape.dim]
    changed = {"elem_type": tensor.elem_type, "shape": old} | changes
    value.CopyFrom(onnx.helper.make_tensor_value_info(name, **changed))
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("file", "where", "name", "changes", "message"),
    [
        ("model", "input", "age", {"elem_type": DOUBLE}, r"float32 \(n, 1\), got float64 \(n, 1\)"),
        ("model", "input", "plan", {"elem_type": INT64}, r"float64 \(n, 1\), got int64 \(n, 1\)"),
        ("gate", "input", "city", {"shape": ["n"]}, r"string \(n, 1\), got string \(n,\)"),
        ("gate", "input", "city", {"shape": ["n", "m"]}, r"string \(n, 1\), got string \(n, n\)"),
        ("gate", "input", "city", {"shape": [5, 1]}, r"string \(n, 1\), got string \(5, 1\)"),
        ("model", "input", "age", {"shape": None}, "got float32 of any shape"),
        ("model", "input", "age", {"shape": []}, r"got float32 \(\):"),
        ("model", "input", "age", {"elem_type": 10}, "got element type 10"),
        ("model", "output", "label", {"elem_type": STRING}, r"int64 \(n,\), got string \(n,\)"),
        ("model", "output", "label", {"shape": ["n", 4]}, r"int64 \(n,\), got int64 \(n, 4\)"),
        ("model", "output", "probabilities", {"shape": ["n", 2]}, r"\(n, 4\), got .* \(n, 2\)"),
        ("model", "output", "probabilities", {"shape": ["n"]}, r"\(n, 4\), got float32 \(n,\)"),
        ("model", "output", "gate_probability", {"shape": ["n", 1]}, r"\(n,\), got .* \(n, 1\)"),
        ("gate", "output", "gate_probabilities", {"shape": ["n", 3]}, r"\(n, 2\), got .* \(n, 3\)"),
        ("gate", "output", "expert", {"elem_type": DOUBLE}, r"int64 \(n,\), got float64 \(n,\)"),
        ("gate", "output", "hidden", {"shape": ["n", "w"]}, r"\(n, width\), got float32 \(n, n\)"),
        ("gate", "output", "hidden", {"shape": ["n", 5]}, "must read .* 'hidden', 5"),
        ("expert_1", "input", "hidden", {"shape": ["n", 5]}, "must read .* 'hidden', 4"),
        ("expert_1", "output", "probabilities", {"shape": ["n", 3]}, r"\(n, 4\), got .*\(n, 3\)"),
    ],
)  # fmt: skip
def test_other_types_and_shapes_are_refused(
    file, where, name, changes, message, table_bundle, manifest
):
    files = {name: (table_bundle / name).read_bytes() for name in manifest.files}
    files[f"{file}.onnx"] = with_value(files[f"{file}.onnx"], where, name, **changes)
    bundle.write(table_bundle, manifest, files)
    for check in (bundle.verify, load):
        with pytest.raises(errors.GraphInterfaceError, match=message):
            check(table_bundle)


def test_manifests_that_fit_other_types_and_shapes_are_refused(table_bundle, manifest):
    classes = manifest.classes
    for changes in (
        {"columns": (dataclasses.replace(manifest.columns[0], dtype="float64"),
                     *manifest.columns[1:])},
        {"n_outputs": 3, "classes": dataclasses.replace(classes, values=(1, 2, 3))},
        {"classes": bundle.Classes(("a", "b", "c", "d"), "<U1", "value")},
        {"n_experts": 1, "expert_usage": (1.0,)},
    ):  # fmt: skip
        files = manifest.files.copy()
        if "n_experts" in changes:
            del files["expert_1.onnx"]
        restate(table_bundle, files=files, **changes)
        with pytest.raises(errors.GraphInterfaceError, match="must have the types and shapes that"):
            bundle.verify(table_bundle)
        restate(table_bundle, **{name: getattr(manifest, name) for name in changes})


def test_the_values_of_graphs(manifest, make_regressor):
    inputs, outputs = bundle.graph_values(manifest, "model.onnx")
    assert inputs[1] == ("city", "string", ("n", 1))
    assert outputs[:2] == (("label", "int64", ("n",)), ("probabilities", "float32", ("n", 4)))
    regressor = bundle.read(make_regressor(2))
    assert bundle.graph_values(regressor, "expert_2.onnx") == (
        (("hidden", "float32", ("n", "width")),), (("variable", "float32", ("n", 2)),)
    )  # fmt: skip
    assert bundle.graph_values(regressor, "gate.onnx")[0] == (("X", "float32", ("n", 3)),)


class TestModelCard:
    def test_card_agrees_with_the_manifest(self, manifest):
        card = bundle.model_card(manifest)
        for text in (
            "# Classification by a mixture of 2 experts",
            "| age | age | number | float32 | 3 to 80 | no |",
            "| city | city | category | string | Bern, Köln | yes |",
            "4 classes: 10, 20, 30, 40",
            "| 1 | 75.0 % |",
            "| top expert | 0.89 |",
            "2026-11-22T05:00:00Z",
        ):
            assert text in card

    def test_lists_the_outputs_of_the_graph(self, manifest, make_regressor):
        for described in (manifest, bundle.read(make_regressor())):
            card = bundle.model_card(described)
            for name in bundle.graph_interface(described, "model.onnx")[1]:
                assert "| " + name.replace("_", "\\_") + " |" in card

    @pytest.mark.parametrize("kind", ["table", "array"])
    def test_its_onnxruntime_example_runs(self, kind, table_bundle, make_regressor, monkeypatch):
        folder = table_bundle if kind == "table" else make_regressor()
        code = (folder / "README.md").read_text().split("```python\n")[-1].split("```")[0]
        monkeypatch.chdir(folder)
        scope = {}
        exec(code, scope)
        assert len(scope["outputs"]) == (4 if kind == "table" else 3)

    def test_names_are_escaped_in_markdown(self, manifest):
        nasty = "a|b`c*d\n# head\u202e<b>"
        column = bundle.Column(nasty, nasty, "category", "string", (nasty, "\ud800"))
        card = bundle.model_card(dataclasses.replace(manifest, columns=(column,)))
        escaped = r"a\|b\`c\*d\\n\# head\\u202e\<b\>"
        assert f"| {escaped} | {escaped} | category | string | {escaped}, \\\\ud800 |" in card
        assert "\n# head" not in card

    def test_long_lists_are_cut(self, manifest):
        columns = tuple(
            bundle.Column(f"c{i}", f"c{i}", "category", "float64", tuple(map(float, range(1000))))
            for i in range(500)
        )
        card = bundle.model_card(
            dataclasses.replace(
                manifest, columns=columns, n_experts=9999, expert_usage=(0.0,) * 9999
            )
        )
        assert "9.0 and 990 more" in card
        assert "and 300 more columns" in card
        assert "and 9799 more experts" in card
        assert len(card) < 50_000

    def test_notes_and_quantization(self, manifest):
        card = bundle.model_card(
            dataclasses.replace(manifest, notes="For *Bern* only.\n", quantization="dynamic")
        )
        assert card.endswith("## Notes\n\n> For *Bern* only.\n")
        assert "8-bit numbers (dynamic)" in card

    def test_notes_cannot_add_sections(self, manifest):
        notes = (
            "hello\n## Scores\n| evil |\n  # more\n- # in a list\n># quoted\nunderlined\n---\n"
            "twice\n===\n\n<!-- <b>x\u202e#1 and C#\u2028# last"
        )
        card = bundle.model_card(dataclasses.replace(manifest, notes=notes))
        assert card.partition("## Notes\n\n")[2].splitlines() == [
            "> hello", r"> \## Scores", "> | evil |", r">   \# more", r"> - \# in a list",
            r"> >\# quoted", "> underlined", r"> \---", "> twice", r"> \===", ">",
            r"> \<!-- \<b>x \#1 and C#", r"> \# last",
        ]  # fmt: skip


@pytest.mark.parametrize(
    "changes", [{"dtype": "float32"}, {"height": 5}, {"layout": "hwc"}, {"width": 4, "height": 6}]
)
def test_graphs_that_read_other_images(make_image_bundle, changes):
    folder = make_image_bundle()
    manifest = bundle.verify(folder)
    files = {name: bundle.read_file(folder, manifest, name) for name in manifest.files}
    image = dataclasses.replace(manifest.image, **changes)
    bundle.write(folder, dataclasses.replace(manifest, image=image), files)
    with pytest.raises(errors.GraphInterfaceError, match="for 'image' .*, got uint8 .n, 4, 6."):
        bundle.verify(folder)
