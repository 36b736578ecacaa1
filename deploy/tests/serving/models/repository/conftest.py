"""Fake bundles and models, so that hundreds of replacements take no time."""

import hashlib
import json
import shutil

import pytest

from skmode_deploy.errors import FileHashError
from skmode_deploy.serving.models.repository import Repository


class Model:
    """What a fake bundle is loaded as."""

    def __init__(self, name, version, text):
        self.name, self.version, self.text = name, version, text


def open_model(name, version, folder):
    """Load a fake bundle: a manifest that states the hash of the one other file."""
    manifest = json.loads((folder / "manifest.json").read_text())
    weights = (folder / "weights").read_bytes()
    if hashlib.sha256(weights).hexdigest() != manifest["sha256"]:
        raise FileHashError("weights must have the stated hash, got another: copy them again.")
    return Model(name, version, weights.decode())


def write_manifest(folder, text):
    manifest = {"sha256": hashlib.sha256(text.encode()).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def put(folder, text="whole"):
    """Put a whole bundle in the place of what was there, as `bundle.write` does."""
    fresh = folder.with_name(f".{folder.name}-0123456789abcdef")
    fresh.mkdir(parents=True)
    (fresh / "weights").write_text(text)
    write_manifest(fresh, text)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def damage(folder, text="damaged"):
    (folder / "weights").write_text(text)
    write_manifest(folder, text + " otherwise")


class Watched:
    """A repository, with what it reported and what it tried to load."""

    def __init__(self, path, **options):
        self.events, self.opened = [], []

        def opener(name, version, folder):
            self.opened.append((name, version))
            return open_model(name, version, folder)

        self.repository = Repository(path, opener, report=self.events.append, **options)

    def scan(self):
        """Scan; give what happened as (kind, model, version)."""
        before = len(self.events)
        events = self.repository.scan()
        assert self.events[before:] == events
        return [(event.kind, event.model, event.version) for event in events]

    def text(self, name):
        return self.repository.get(name).text


@pytest.fixture
def models(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def watched(models):
    return Watched(models)


# The functions above, for tests.


@pytest.fixture(name="open_model")
def open_model_fixture():
    return open_model


@pytest.fixture(name="write_manifest")
def write_manifest_fixture():
    return write_manifest


@pytest.fixture(name="put")
def put_fixture():
    return put


@pytest.fixture(name="damage")
def damage_fixture():
    return damage


@pytest.fixture(name="watch")
def watch_fixture():
    """``watch(path, **options)`` makes a repository that takes down what happens to it."""
    return Watched
