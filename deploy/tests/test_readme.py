"""The code, links and tables of the README are right."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from skmode_deploy import errors
from skmode_deploy.cli import EXIT_CODES, main

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def make_keys(folder):
    command = [
        "openssl",
        "ecparam",
        "-name",
        "prime256v1",
        "-genkey",
        "-noout",
        "-out",
        "private.pem",
    ]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    command = ["openssl", "ec", "-in", "private.pem", "-pubout", "-out", "public.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def test_python_blocks_run(
    table_bundle, make_image_bundle, make_text_bundle, tmp_path, monkeypatch
):
    pytest.importorskip("model_signing")
    pillow = pytest.importorskip("PIL.Image")
    table_bundle.rename(tmp_path / "bundle")
    make_image_bundle(path="photos")
    make_text_bundle("reviews")
    for name, grey in {"first.png": 0, "second.jpg": 255}.items():
        pillow.new("L", (6, 4), grey).save(tmp_path / name)
    make_keys(tmp_path)
    monkeypatch.chdir(tmp_path)
    for_serving, _ = README.split("## On the command line")  # what follows trains a model
    blocks = re.findall(r"^```python\n(.*?)^```$", for_serving, re.DOTALL | re.MULTILINE)
    blocks = [block for block in blocks if "language.load" not in block]
    assert len(blocks) == 5
    names = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"README.md, block {number}", "exec"), names)
    assert names["labels"].tolist() == ["good", "bad", "bad"]
    assert names["classes"].tolist() == ["dark", "light"]
    assert names["prediction"].expert.tolist() == [0, 1]


@pytest.mark.slow
def test_the_block_on_language_models_runs(language_bundle, tmp_path, monkeypatch, capsys):
    shutil.copytree(language_bundle, tmp_path / "lm")
    monkeypatch.chdir(tmp_path)
    block = next(
        block
        for block in re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
        if "language.load" in block
    )
    exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out


def test_links_exist():
    links = re.findall(r"\]\((?!https?://)([^)#]+)", README)
    assert links
    assert [link for link in links if not (Path(__file__).parents[1] / link).exists()] == []


def test_every_exception_is_listed():
    listed = set(re.findall(r"`(\w+Error)`", README))
    assert set(errors.__all__) <= listed | {"BundleError"}


def test_options_exist(capsys):
    options = set(re.findall(r"`?(--[a-z][a-z-]+)", README.split("## On the command line")[1]))
    texts = []
    commands = (
        "predict",
        "verify",
        "benchmark",
        "serve",
        "rollback",
        "triton",
        "generate",
        "route",
    )
    for command in commands:
        with pytest.raises(SystemExit):
            main([command, "--help"])
        texts.append(capsys.readouterr().out)
    assert {"--keep", "--public-key"} <= options
    assert [option for option in options if option not in "".join(texts)] == []


def test_every_exit_code_is_listed():
    codes = re.findall(r"^  (\d+) +(.*)$", EXIT_CODES, re.MULTILINE)
    assert len(codes) >= 9
    for code, meaning in codes:
        assert f"| {code} | {meaning}" in README


def test_the_lock_of_the_node_example_belongs_to_it():
    folder = Path(__file__).parents[1] / "node"
    package = json.loads((folder / "package.json").read_text())
    lock = json.loads((folder / "package-lock.json").read_text())
    assert lock["packages"][""]["dependencies"] == package["dependencies"]
    version = package["dependencies"]["onnxruntime-node"]
    assert lock["packages"]["node_modules/onnxruntime-node"]["version"] == version
