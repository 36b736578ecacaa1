import io
import json
import sys

import pytest

from skmode_deploy import language
from skmode_deploy.cli import main

# Importing transformers and tracing a model take seconds.
pytestmark = pytest.mark.slow

PROMPT = "the dog and"


@pytest.fixture
def run(capsys, language_bundle):
    """Run a command on the bundle; return its exit code and what it wrote."""

    def run(command, *arguments):
        code = main([command, str(language_bundle), *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_generate(run, language_bundle):
    model = language.load(language_bundle)
    options = ("--max-tokens", "9", "--temperature", "1", "--seed", "3", "--domain", "fr")
    text = model.generate(PROMPT, 9, temperature=1, seed=3, domain="fr")
    assert run("generate", PROMPT, *options) == (0, text + "\n", "")
    stop = text[2:5]
    code, out, _ = run("generate", PROMPT, *options, "--stop", stop)
    assert (code, out) == (0, text[: text.index(stop)] + "\n")


def test_prompt_from_stdin(run, language_bundle, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(PROMPT.encode())))
    text = language.load(language_bundle).generate(PROMPT, 4)
    assert run("generate", "-", "--max-tokens", "4") == (0, text + "\n", "")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("",), 3, "The prompt must have at least one character"),
        ((PROMPT, "--max-tokens", "1000000000"), 3, "max_tokens must be a whole number from 1 to"),
        ((PROMPT, "--domain", "es"), 3, "The domain must be one of 'C++', 'en', 'fr', got 'es'"),
        (("a\udcff",), 3, "The prompt must be Unicode without surrogates"),
        (("x y " * 100,), 3, "must have fewer tokens than the model has positions"),
        ((PROMPT, "--unknown", "common"), 2, 'unknown="common" needs a bundle with common.onnx'),
    ],
)
def test_refused(arguments, code, message, run):
    found, out, err = run("generate", *arguments)
    assert (found, out) == (code, "")
    assert message in err


def test_stdin_must_be_utf8(run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\xff")))
    code, _, err = run("route", "-")
    assert code == 3
    assert "Standard input must be UTF-8" in err


def test_route(run):
    texts = ["The cat and the dog", "Le chat et le chien", "Ωδή στη χαρά"]
    assert run("route", *texts) == (0, "en\nfr\n(unknown)\n", "")
    code, out, _ = run("route", "--json", texts[0])
    assert code == 0
    row = json.loads(out)[0]
    assert row["domain"] == "en"
    assert row["probabilities"]["en"] == pytest.approx(1, abs=0.2)


def test_route_has_a_line_for_each_line_of_stdin(run, monkeypatch):
    lines = ["The cat and\u2028the dog\x0cand the mat", "Le chat et\x85le chien\x0bet le tapis"]
    for content in ("\n".join(lines), "\r\n".join([*lines, ""])):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
        code, out, _ = run("route", "-")
        assert (code, len(out.splitlines())) == (0, 2)


def test_verify_and_inspect(run):
    code, out, _ = run("verify")
    assert code == 0
    assert "8 sample texts match the model's predictions" in out
    code, out, _ = run("inspect")
    assert code == 0
    assert "language modeling, 3 domains" in out
    assert "tokens      300, at most 64 of them at a time" in out
    assert "expert_fr.onnx" in out


@pytest.mark.parametrize("command", ["benchmark", "predict"])
def test_other_commands_say_what_to_do(command, run, tmp_path):
    (tmp_path / "in.csv").write_text("a\n1\n")
    files = [str(tmp_path / "in.csv"), str(tmp_path / "out.csv")] if command == "predict" else []
    code, _, err = run(command, *files)
    assert code == 1
    assert "open it with skmode_deploy.language.load" in err


def test_rows_have_no_route(table_bundle, capsys):
    assert main(["route", str(table_bundle), "x"]) == 1
    assert "open it with skmode_deploy.load" in capsys.readouterr().err


@pytest.mark.parametrize("texts", [("-", "x"), ("x", "-"), ("-", "-")])
def test_stdin_stands_alone(texts, run):
    code, out, err = run("route", *texts)
    assert (code, out) == (2, "")
    assert "- must stand alone, got other texts beside it" in err


@pytest.mark.parametrize("command", ["generate", "route"])
def test_closed_stdin(command, run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    code, _, err = run(command, "-")
    assert code == 2
    assert "Standard input must be open for -" in err
