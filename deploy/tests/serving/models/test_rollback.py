"""The rollback command goes back to another complete version."""

import os
import shutil

import pytest

from skmode_deploy import bundle
from skmode_deploy.errors import BundleError
from skmode_deploy.serving.models import rollback as module
from skmode_deploy.serving.models.repository import Repository
from skmode_deploy.serving.models.rollback import rollback


@pytest.fixture
def models(tmp_path, table_bundle):
    """A model folder with four whole versions of one model."""
    for version in (1, 2, 3, 10):
        shutil.copytree(table_bundle, tmp_path / "models" / "churn" / str(version))
    return tmp_path / "models"


@pytest.fixture
def churn(models):
    return models / "churn"


def damage(folder):
    (folder / "model.onnx").write_bytes(b"damaged")


def test_rollback_goes_down_one_version_at_a_time(models, churn):
    assert rollback(models, "churn") == (10, 3)
    assert (churn / "current").read_bytes() == b"3\n"
    assert rollback(models, "churn") == (3, 2)
    assert rollback(str(models), "churn") == (2, 1)
    with pytest.raises(ValueError, match="version below the current one.*1 is the lowest of"):
        rollback(models, "churn")
    assert (churn / "current").read_bytes() == b"1\n"


def test_a_version_can_be_chosen_and_released(models, churn):
    assert rollback(models, "churn", to=2) == (10, 2)
    assert rollback(models, "churn", to=10) == (2, 10)
    assert rollback(models, "churn", to=1) == (10, 1)
    assert rollback(models, "churn", latest=True) == (1, 10)
    assert not (churn / "current").exists()
    assert rollback(models, "churn", latest=True) == (10, 10)


def test_nothing_else_is_left_in_the_folder(models, churn, monkeypatch):
    rollback(models, "churn")
    rollback(models, "churn")
    assert sorted(os.listdir(churn)) == ["1", "10", "2", "3", "current"]

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"must be writable, got '.*churn', and .* No space left"):
        rollback(models, "churn")
    assert sorted(os.listdir(churn)) == ["1", "10", "2", "3", "current"]
    assert (churn / "current").read_bytes() == b"2\n"


def test_a_reader_sees_the_old_version_or_the_new_one(models, churn, monkeypatch):
    rollback(models, "churn")
    seen = []
    fsync = os.fsync

    def look(descriptor):
        seen.append((churn / "current").read_text())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    rollback(models, "churn")
    assert seen == ["3\n", "2\n"]  # before the file takes its name, and after


def test_only_complete_versions_can_be_chosen(models, churn):
    damage(churn / "3")
    with pytest.raises(BundleError) as error:
        rollback(models, "churn")
    message = str(error.value)
    assert message.startswith("Version 3 of 'churn' must be whole to be served, and it is refused:")
    assert "model.onnx must have the" in message
    assert message.endswith(". Or choose another of '10', '3', '2', '1' with --to.")
    assert not (churn / "current").exists()
    assert rollback(models, "churn", to=2) == (10, 2)


def test_default_is_the_highest_complete_version(models, churn):
    damage(churn / "10")
    assert rollback(models, "churn") == (3, 2)
    assert rollback(models, "churn", latest=True) == (2, 3)
    for version in (1, 2, 3):
        damage(churn / str(version))
    with pytest.raises(BundleError, match="none of '10', '3', '2', '1' is: copy one again"):
        rollback(models, "churn", latest=True)
    with pytest.raises(ValueError, match="No version of 'churn' is whole.*with --to"):
        rollback(models, "churn")
    assert not (churn / "current").exists()


def test_a_removed_named_version_can_be_left(models, churn):
    (churn / "current").write_text("7")
    assert rollback(models, "churn") == (7, 3)


@pytest.mark.parametrize("text", ["", "newest"])
def test_a_file_that_names_no_version_is_replaced(models, churn, text):
    (churn / "current").write_text(text)
    with pytest.raises(ValueError, match="'current' must be a whole number.*, or choose a version"):
        rollback(models, "churn")
    assert rollback(models, "churn", to=2) == (None, 2)
    (churn / "current").write_text(text)
    assert rollback(models, "churn", latest=True) == (None, 10)


def test_a_link_is_replaced_and_not_written_through(models, churn, tmp_path):
    (tmp_path / "other").write_text("precious")
    (churn / "current").symlink_to(tmp_path / "other")
    assert rollback(models, "churn", to=3) == (None, 3)
    assert (tmp_path / "other").read_text() == "precious"
    assert not (churn / "current").is_symlink()


@pytest.mark.parametrize("to", [4, 0, -1])
def test_the_version_must_be_there(models, to):
    with pytest.raises(ValueError, match=f"one of '10', '3', '2', '1', got '{to}': choose"):
        rollback(models, "churn", to=to)


def test_a_version_and_the_latest_exclude_each_other(models):
    with pytest.raises(ValueError, match="got version 2 and the latest: leave one out"):
        rollback(models, "churn", to=2, latest=True)


@pytest.mark.parametrize("name", ["credit", "../models/churn", "churn/3", ".", "", "churn@3"])
def test_the_model_must_be_there(models, name):
    with pytest.raises(ValueError, match="The model must be one of 'churn', got"):
        rollback(models, name)


def test_the_folder_must_be_one_of_models_with_versions(models, churn, tmp_path, table_bundle):
    with pytest.raises(NotADirectoryError, match="which is no folder: pass the folder"):
        rollback(tmp_path / "nowhere", "churn")
    with pytest.raises(NotADirectoryError, match="which is a single bundle: pass the folder"):
        rollback(table_bundle, "churn")
    shutil.copytree(table_bundle, models / "credit")
    with pytest.raises(ValueError, match="'credit' is a single bundle: copy bundles to folders"):
        rollback(models, "credit")
    assert not (models / "credit" / "current").exists()
    (models / "empty").mkdir()
    with pytest.raises(ValueError, match="'empty' has none: copy bundles to folders"):
        rollback(models, "empty")
    (tmp_path / "bare").mkdir()
    with pytest.raises(ValueError, match="must lie in the model folder, got 'churn'"):
        rollback(tmp_path / "bare", "churn")


def test_versions_outside_the_folder_cannot_be_chosen(models, churn, table_bundle):
    (churn / "4").symlink_to(table_bundle)
    with pytest.raises(ValueError, match="one of '10', '3', '2', '1', got '4'"):
        rollback(models, "churn", to=4)


def test_a_server_follows(models):
    repository = Repository(
        models, lambda name, version, folder: bundle.verify(folder), report=lambda event: None
    )
    repository.scan()
    assert repository.current("churn") == 10
    for options, version in ({}, 3), ({}, 2), ({"to": 3}, 3):
        rollback(models, "churn", **options)
        assert ("switched", version) in [(i.kind, i.version) for i in repository.scan()]
        assert repository.current("churn") == version
    rollback(models, "churn", latest=True)
    repository.scan()
    repository.scan()
    assert repository.current("churn") == 10


def test_the_bundle_is_read_once(models, monkeypatch):
    """With an explicit version, only that one is verified: bundles may be large."""
    rollback(models, "churn", to=10)
    verified = []
    verify = bundle.verify
    monkeypatch.setattr(
        module.bundle, "verify", lambda folder: (verified.append(folder.name), verify(folder))
    )
    rollback(models, "churn")
    assert verified == ["3"]
