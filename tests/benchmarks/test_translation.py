"""The benchmark of translation: its texts, its network, its runs in a short form."""

import hashlib
import io
import tarfile

import numpy as np
import pytest
import torch

from benchmarks.translation import _texts
from benchmarks.translation._model import END, PADDING, Size, Translator
from benchmarks.translation._texts import Pair


def make_package(pages):
    """Make a Debian package of help pages."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as archive:
        for name, content in pages.items():
            member = tarfile.TarInfo(f"./usr/share/libreoffice/help/{name}")
            member.size = len(content.encode())
            archive.addfile(member, io.BytesIO(content.encode()))
    members = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": data.getvalue()}
    package = b"!<arch>\n"
    for name, content in members.items():
        package += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
        package += content + b"\n" * (len(content) % 2)
    return package


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Put packages of ten pages into the cache."""
    monkeypatch.setenv("SKMODE_DATA_HOME", str(tmp_path))
    words = {"de": "Seite", "en-us": "page"}
    for language, word in words.items():
        pages = {
            f"{language[:2]}/text/shared/{i}.html": (
                f'<h1 id="a"  dir="auto">{word} &amp; <b>{i}</b></h1>\n'
                f'<p id="b" class="x">{word}\nfür alle</p><p id="c">gleich</p><p id="d{word}">x</p>'
            )
            for i in range(10)
        }
        package = make_package(pages | {f"{language[:2]}/index.html": '<p id="a">no</p>'})
        path = tmp_path / f"libreoffice-help-{language}_4%3a7.4.7-1+deb12u14_all.deb"
        path.write_bytes(package)
        monkeypatch.setitem(_texts.SHA256, language, hashlib.sha256(package).hexdigest())
    return path


def test_texts(cached):
    texts = _texts.load_texts()
    assert [len(part) for part in (texts.train, texts.valid, texts.test)] == [9, 1, 1]
    pairs = texts.train + texts.valid + texts.test
    assert len({pair.source for pair in pairs}) == 11  # "Seite für alle" once
    assert not {pair.page for pair in texts.train} & {pair.page for pair in texts.test}
    (pair,) = texts.test
    number = pair.page.removeprefix("text/shared/").removesuffix(".html")
    assert (pair.source, pair.target) == (f"Seite & {number}", f"page & {number}")


def test_a_changed_package_is_refused(cached):
    cached.write_bytes(b"!<arch>\n")
    with pytest.raises(OSError, match=r"must have the sha256 .*, found .*: delete"):
        _texts.load_texts()


def test_a_package_that_apt_lacks(tmp_path, monkeypatch):
    monkeypatch.setenv("SKMODE_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConnectionError, match="apt-get must download libreoffice-help-de="):
        _texts.load_texts()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Translator(20, Size(8, 2, 1, 8), {"n_experts": 3, "top_k": 2}).eval()


@torch.no_grad()
def test_padding_and_later_tokens_change_nothing(model):
    source, target = torch.tensor([[5, 6, END]]), torch.tensor([[1, 7, 8]])
    expected = model(source, target)
    padded = torch.nn.functional.pad(source, (0, 4), value=PADDING)
    longer = torch.nn.functional.pad(target, (0, 2), value=PADDING)
    torch.testing.assert_close(model(padded, longer)[:, :3], expected)
    later = torch.tensor([[1, 7, 12, 13]])
    torch.testing.assert_close(model(source, later)[:, :2], expected[:, :2])


def test_translation_is_the_most_likely_token_at_each_step(model):
    source = torch.tensor([[5, 6, END], [7, END, PADDING]])
    found = model.translate(source, 6)
    alone = model.translate(source[1:, :2], 6)
    assert (found[1:] == alone).all()
    for row, start in zip(found, source, strict=True):
        before = torch.tensor([[1]])
        for token in row[: (row != PADDING).sum()]:
            logits = model(start[None], before)[0, -1].detach()
            logits[[PADDING, 1]] = -torch.inf
            assert logits.argmax() == token
            before = torch.cat([before, token.view(1, 1)], dim=1)


def test_short_form(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tokenizers")
    pytest.importorskip("sacrebleu")
    from benchmarks.translation import __main__ as benchmark

    pairs = [
        Pair(str(i // 5), f"Die Seite {i} hat {i % 7} Zeilen", f"Page {i} has {i % 7} lines")
        for i in range(60)
    ]
    texts = _texts.divide(pairs, seed=0)
    monkeypatch.setattr(_texts, "load_texts", lambda: texts)
    output = tmp_path / "results.jsonl"
    options = ["--quick", "--seeds", "1", "--output", str(output)]
    benchmark.main(options)
    lines = benchmark.read(output)
    assert [line["case"] for line in lines] == list(benchmark.CASES)
    table = capsys.readouterr().out
    assert "| top-2, alpha=1, served by the top expert | 1 |" in table
    mixtures = [line["parameters"] for line in lines if not line["case"].startswith("dense")]
    assert len(set(mixtures)) == 1
    assert all(line["train_loss"]["distillation"] > 0 for line in lines if "=1" in line["case"])

    benchmark.main([*options, "--minutes", "0"])  # all is there already
    assert len(benchmark.read(output)) == len(lines)
    benchmark.main([*options[:1], "--seeds", "2", "--minutes", "-1", *options[3:]])
    assert "The time is over before 'top-2, alpha=0' with seed 1" in capsys.readouterr().out


def test_intervals_are_of_bleu():
    pytest.importorskip("sacrebleu")
    from sacrebleu.metrics import BLEU

    from benchmarks.translation import _report

    found = ["The page is open .", "Click on the wrong button here", "the end"]
    pairs = [
        Pair("a", "", "The page is open ."),
        Pair("b", "", "Click on the right button here"),
        Pair("b", "", "The end of it"),
    ]
    pytest.importorskip("tokenizers")
    from benchmarks.translation._run import page_counts

    counts = np.array([page_counts(found, pairs)])
    expected = BLEU().corpus_score(found, [[pair.target for pair in pairs]]).score
    np.testing.assert_allclose(_report.bleu(counts.sum(axis=1)), [expected])
    draws = _report.resample(counts)
    assert draws.max() <= 100 + 1e-9
    assert draws.min() < expected < draws.max()
