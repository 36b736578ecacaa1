from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.metrics import get_scorer

from skmode.language import DomainRouter
from skmode.language.router.ngrams import count_ngrams, ngram_codes
from skmode.language.router.segments import find_segments

WORDS = {
    "en": "the of and to in is that for it with as this are be on by or not which from",
    "fr": "le la les de des du et une est que qui dans pour par sur ne pas ce cette",
    "de": "der die das und zu in ist den dem des ein eine nicht mit von auf wird sich",
    "xx": "qzx jkw vvy zzq xwk kqj yyv wxz qqk",
}


def make_texts(domain, n, seed=0):
    rng = np.random.RandomState(seed)
    return [" ".join(rng.choice(WORDS[domain].split(), rng.randint(4, 30))) for _ in range(n)]


def make_corpus(domains=("en", "fr"), n=100, seed=0):
    texts = [text for domain in domains for text in make_texts(domain, n, seed)]
    return texts, np.repeat(domains, n).tolist()


@pytest.fixture(
    scope="module", params=["naive_bayes", pytest.param("logistic", marks=pytest.mark.slow)]
)
def router(request):
    return DomainRouter(request.param, random_state=0).fit(*make_corpus())


@pytest.fixture
def bayes():
    return DomainRouter(random_state=0).fit(*make_corpus())


def test_tells_domains_of_new_texts(router):
    texts, domains = make_corpus(seed=1)
    assert router.score(texts, domains) > 0.95
    proba = router.predict_proba(texts)
    np.testing.assert_allclose(proba.sum(1), 1)
    assert router.predict_proba(["le"]).argmax() == 1
    assert router.predict_proba(["x"]).shape == (1, 2)


def test_each_text_of_a_batch_is_routed_by_itself(router):
    texts, _ = make_corpus(seed=1, n=5)
    alone = np.vstack([router.predict_proba([text]) for text in texts])
    np.testing.assert_array_equal(router.predict_proba(texts), alone)


def test_codes_are_those_of_the_docstring():
    n_buckets = 256

    def three(a, b, c):
        return 65792 + (65536 * a + 256 * b + c) * 2_654_435_761 % 2**32 // (2**32 // n_buckets)

    a, b, c = content = b"\xf1e\xff"
    two = [256 + 256 * 10 + a, 256 + 256 * a + b, 256 + 256 * b + c]
    expected = [10, a, b, c, *two, three(10, a, b), three(a, b, c)]
    assert ngram_codes(content, n_buckets).tolist() == expected
    assert ngram_codes(b"a", n_buckets).tolist() == [10, 97, 256 + 2560 + 97]
    counts = count_ngrams([content, b"a"], n_buckets)
    assert counts.sum() == 12
    assert counts[97] == 1


def test_deep_indentation_weighs_no_more_than_any(router):
    shallow, deep = router.predict_proba(["    the dog", "                the dog"])
    np.testing.assert_array_equal(shallow, deep)


def test_arithmetic_is_that_of_the_docstring(router):
    texts, _ = make_corpus()
    for text in ("the dog", "l\u00e9 chat"):
        codes = ngram_codes(text.encode(), router.n_buckets)
        sums = router.weights_[codes].sum(0, dtype=float)
        nb = router.method == "naive_bayes"
        logits = sums / (router.temperature_ if nb else np.sqrt(len(codes))) + router.bias_
        expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        np.testing.assert_allclose(router.predict_proba([text])[0], expected, rtol=1e-12)
    if nb:
        counts = count_ngrams([t.encode() for t in texts[:100]], 65536) + router.smoothing
        ones = np.log(counts[:256] / counts[:256].sum()) * router.importance_[:256]
        np.testing.assert_allclose(router.weights_[:256, 0], ones, rtol=1e-5)
        best = int(router.predict_proba([text]).argmax())
        likelihood = router.log_proba_[codes, best].sum(dtype=float)
        mean, level, slope = router.typical_[best]
        z = (likelihood / len(codes) - mean) / np.sqrt(level + slope / len(text.encode()))
        assert router.confidence([text])[0] == pytest.approx(z)
        assert level > 0
        assert slope >= 0


def test_abstains_on_what_is_unlike_all_domains(bayes):
    known, _ = make_corpus(seed=1)
    assert np.mean(bayes.predict(known) == None) <= 0.05  # noqa: E711
    assert bayes.predict(make_texts("xx", 20)).tolist() == [None] * 20
    always = clone(bayes).set_params(abstain=None).fit(*make_corpus())
    assert None not in always.predict(make_texts("xx", 20))
    unsure = clone(bayes).set_params(abstain="probability").fit(*make_corpus())
    assert 0.5 < unsure.threshold_ <= 1


def test_adds_a_domain_without_the_old_texts(bayes):
    before = bayes.weights_.copy()
    german = make_texts("de", 100)
    assert bayes.add_domain("de", iter(german)).domains_ == ["en", "fr", "de"]
    np.testing.assert_array_equal(bayes.weights_[:, :2], before)
    counts = count_ngrams([text.encode() for text in german], 65536)[:256] + bayes.smoothing
    expected = bayes.importance_[:256] * np.log(counts / counts.sum())
    np.testing.assert_allclose(bayes.weights_[:256, 2], expected, rtol=1e-5)
    texts, domains = make_corpus(("en", "fr", "de"), seed=1)
    assert bayes.score(texts, domains) > 0.95
    assert bayes.classes_.tolist() == bayes.domains_


def test_removes_and_replaces_domains(bayes):
    bayes.add_domain("de", make_texts("de", 100))
    weights = bayes.weights_
    bayes.replace_domain("en", make_texts("xx", 100))
    np.testing.assert_array_equal(bayes.weights_[:, 1:], weights[:, 1:])
    assert bayes.predict(make_texts("xx", 1)).tolist() == ["en"]
    bayes.remove_domain("fr")
    assert bayes.domains_ == ["en", "de"]
    np.testing.assert_array_equal(bayes.weights_[:, 1], weights[:, 2])
    assert len(bayes.typical_) == len(bayes.bias_) == 2


def test_learns_from_one_text_of_each():
    router = DomainRouter().fit(["the cat and the dog", "le chat est la"], ["en", "fr"])
    assert router.predict_proba(["the dog"])[0, 0] > 0.5


def test_learns_from_any_number_of_texts():
    for n in (1, 20, 21, 22, 45):
        for seed in range(2):
            router = DomainRouter(random_state=seed, n_buckets=256).fit(*make_corpus(n=n))
            assert router.score(*make_corpus(seed=1, n=20)) > 0.7, (n, seed)
            # What is learned beside a handful of counted texts makes lines harder to tell.
            assert n > 30 or np.all(router.importance_ == 1), (n, seed)
    for n in (1, 21, 22):
        for seed in range(3):
            router.set_params(random_state=seed).replace_domain("en", make_texts("en", n))
            assert router.predict(["the of and to in is"]).tolist() == ["en"], (n, seed)


def test_learns_from_one_long_text_of_each():
    for pages in (21, 25, 36):
        texts = [" ".join(make_texts(name, 20 * pages))[: 512 * pages] for name in ("en", "fr")]
        for seed in range(2):
            router = DomainRouter(random_state=seed, n_buckets=256, max_bytes=512)
            router.fit(texts, ["en", "fr"]).add_domain("xx", [texts[0]])
            assert router.predict_proba([texts[1][:100]]).argmax() == 1, (pages, seed)


@pytest.mark.slow
def test_logistic_regression_learns_from_any_number_of_texts():
    for n in (1, 20, 21, 22, 25, 45):
        router = DomainRouter("logistic", random_state=0, n_buckets=256).fit(*make_corpus(n=n))
        assert router.predict_proba(["the of and to", "le la les de"]).argmax(1).tolist() == [0, 1]


def test_temperature_is_not_learned_from_a_handful(monkeypatch):
    from skmode.language.router import estimator

    learned_from = []
    fit_temperature = estimator.fit_temperature

    def fit(sums, truth):
        learned_from.append(np.bincount(truth).tolist())
        return fit_temperature(sums, truth)

    monkeypatch.setattr(estimator, "fit_temperature", fit)
    for n in (3, 60):
        DomainRouter(random_state=0, n_buckets=256).fit(*make_corpus(n=n))
    assert learned_from[0] == [201, 201]
    assert min(learned_from[1]) >= 200


def test_iterators_are_read_once_and_long_texts_in_pages():
    texts, domains = make_corpus()
    one = DomainRouter(random_state=0).fit(iter(texts), iter(domains))
    two = DomainRouter(random_state=0).fit(texts, domains)
    np.testing.assert_array_equal(one.weights_, two.weights_)
    long = DomainRouter(random_state=0).fit(
        [" ".join(texts[:100]), " ".join(texts[100:])], ["a", "b"]
    )
    assert long.domains_ == ["a", "b"]
    assert long.score([texts[0], texts[-1]], "ab") == 1


def test_reads_the_first_bytes_of_a_huge_text(bayes):
    start = " ".join(make_texts("fr", 400))[:4096]
    huge = start + "the and of " * 100_000
    np.testing.assert_array_equal(bayes.predict_proba([huge]), bayes.predict_proba([start]))


def test_segments_are_routed_one_by_one(bayes):
    english, french = make_texts("en", 1)[0], make_texts("fr", 1)[0]
    text = f"{english}\n\n    # {french}\n> {english}  # {french}\n"
    segments = bayes.route_segments(text)
    assert [each.domain for each in segments] == ["en", "fr", "en", "fr"]
    assert [each.text for each in segments] == [english, french, english, french]
    assert all(text[each.start : each.stop] == each.text for each in segments)
    assert bayes.route_segments(" \n") == []


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("half = len(x) // 2  # the middle", ["half = len(x) // 2", "the middle"]),
        ("m = a // count\nreturn m  # of all", ["m = a // count", "return m", "of all"]),
        ("int x = f(1); // the first # 5", ["int x = f(1);", "the first # 5"]),
        ("// a\nif (x) { // of # 5\n  y = 1 // b", ["a", "if (x) {", "of # 5", "y = 1", "b"]),
        ("x = 'a # b'  # it's so", ["x = 'a # b'", "it's so"]),
        ('x = "\\" # b"', ['x = "\\" # b"']),
        ("while True: # for ever", ["while True:", "for ever"]),
        ("# x = 1  # one", ["x = 1  # one"]),
        ("He said # 5 is good", ["He said # 5 is good"]),
        ("He left.  # 5 is Bob's", ["He left.  # 5 is Bob's"]),
        ("see http://a.b // c", ["see http://a.b // c"]),
    ],
)  # fmt: skip
def test_comments_are_parted_from_code_where_they_are_comments(text, segments):
    assert [text[start:stop] for start, stop in find_segments(text)] == segments


def test_segments_of_long_lines_take_no_time():
    n = 10**6
    for line in (
        "a" + " " * n + "b",
        "'" * n,
        "\\" * n,
        "a # " * n,
        "a' b\" " * n,
        "if " * n + ":",
    ):
        assert len(find_segments(line)) == 1


def test_clones_and_pickles(router):
    again = clone(router).fit(*make_corpus())
    np.testing.assert_array_equal(again.weights_, router.weights_)
    loaded = pickle.loads(pickle.dumps(router))
    assert loaded.predict(["the of and"]).tolist() == router.predict(["the of and"]).tolist()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: r.predict([""]), "at least one byte, but text 0 is empty"),
        (lambda r: r.predict([b"ab", b"\xff"]), "must be valid UTF-8, but text 1"),
        (lambda r: r.predict(["\ud800"]), "must be valid UTF-8, but text 0"),
        (lambda r: r.add_domain("en", ["x"]), "knows 'en': use replace_domain"),
        (lambda r: r.remove_domain("xx"), "knows the domains en, fr, got 'xx'"),
        (lambda r: r.add_domain("xx", []), "'xx' has none"),
        (lambda r: r.fit(["a"], ["en"]), "at least two domains, got \\['en'\\]"),
        (lambda r: r.fit(["a", "b"], ["en"]), "got 1 domains and more texts"),
        (lambda r: r.fit(["a"], ["en", "fr"]), "got 1 texts and more domains"),
        (lambda r: r.fit(["a", "b"], ["en", ""]), "A domain must be a name, got ''"),
        (
            lambda r: clone(r).set_params(smoothing=0).fit(["a", "b"], "xy"),
            "smoothing must be a number",
        ),
        (
            lambda r: clone(r).set_params(smoothing=np.nan).fit(["a", "b"], "xy"),
            "smoothing must be a num",
        ),
        (lambda r: clone(r).set_params(C=-1).fit(["a", "b"], "xy"), "C must be a number above 0"),
        (
            lambda r: clone(r).set_params(max_bytes=0).fit(["a", "b"], "xy"),
            "max_bytes must be a whole",
        ),
        (
            lambda r: clone(r).set_params(method="logistic").fit([" ", "a", "b"], ["x", "y", "z"]),
            "needs a line of each domain that is not blank, but those of 'x'",
        ),
        (lambda r: clone(r).set_params(n_buckets=100).fit(["a"], ["b"]), "power of two"),
        (lambda r: clone(r).set_params(method="svm").fit(["a"], ["b"]), "got 'svm'"),
        (lambda r: clone(r).set_params(n_buckets="a").fit(["a"], ["b"]), "power of two"),
        (lambda r: clone(r).set_params(n_buckets=256.0).fit(["a"], ["b"]), "power of two"),
        (lambda r: clone(r).set_params(abstained=1).fit(["a"], ["b"]), "below 1, got 1"),
        (lambda r: clone(r).set_params(abstained="x").fit(["a"], ["b"]), "below 1, got 'x'"),
        (lambda r: clone(r).set_params(abstain="x").fit(["a"], ["b"]), "got 'x'"),
    ],
)
def test_errors(bayes, call, message):
    with pytest.raises(ValueError, match=message):
        call(bayes)


def test_types_are_checked(bayes):
    for method in (bayes.predict, lambda text: bayes.fit(text, ["a", "b"])):
        with pytest.raises(TypeError, match="put it into a list"):
            method("ab")
        with pytest.raises(TypeError, match="iterable of texts, got NoneType"):
            method(None)
    with pytest.raises(TypeError, match="str or bytes, got int as text 0"):
        bayes.predict([3])
    with pytest.raises(TypeError, match="domains must be names, got NoneType"):
        bayes.add_domain(None, ["a"])


@pytest.mark.slow
def test_logistic_regression_adds_no_domain():
    router = DomainRouter("logistic").fit(*make_corpus())
    with pytest.raises(ValueError, match="Only naive Bayes learns a domain"):
        router.add_domain("de", make_texts("de", 10))
    router = DomainRouter("logistic").fit(*make_corpus(("en", "fr", "de")))
    assert router.remove_domain("fr").domains_ == ["de", "en"]
    assert router.predict_proba(["der die das"]).argmax() == 0


@pytest.mark.parametrize("name", ["files/en.txt", "EN.JSON.gz", "./exists"])
def test_names_of_files_are_no_texts(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exists").write_text("the cat")
    texts, domains = make_corpus(("en", "fr"))
    with pytest.raises(
        ValueError, match=f"of 'de' are names of files, such as '{name}': pass pathl"
    ):
        DomainRouter().fit([*texts, name, "b.txt"], [*domains, "de", "de"])
    router = DomainRouter().fit([*texts, name], [*domains, "en"])
    with pytest.raises(ValueError, match="are names of files"):
        router.add_domain("de", iter([name, name]))
    assert router.add_domain("de", [name.encode()]).domains_ == ["en", "fr", "de"]
    assert router.predict_proba([name]).argmax() == 2


def test_a_mapping_is_no_list_of_texts():
    texts = {"en": ["the cat"], "fr": ["le chat"]}
    router = DomainRouter()
    for call in (
        lambda: router.fit(texts, list(texts)),
        lambda: router.fit(list(texts), texts),
        lambda: DomainRouter().fit(*make_corpus(("en", "fr"))).predict(texts),
    ):
        with pytest.raises(TypeError, match="got dict, of which only the keys would be read"):
            call()


@pytest.mark.parametrize(
    "method", ["naive_bayes", pytest.param("logistic", marks=pytest.mark.slow)]
)
def test_scorers_read_the_columns_in_the_order_of_classes(method):
    texts, domains = make_corpus(("en", "fr", "de"))
    router = DomainRouter(method, random_state=0).fit(texts, domains)
    assert router.classes_.tolist() == router.domains_ == ["de", "en", "fr"]
    assert get_scorer("neg_log_loss")(router, texts, domains) > -0.5
    assert get_scorer("roc_auc_ovr")(router, texts, domains) > 0.95
    assert router.score(texts, domains) > 0.95
    assert router.weights_.flags.c_contiguous


def test_a_table_is_no_list_of_texts(bayes):
    frame = pd.DataFrame({"text": ["the cat", "le chat"]})
    for call in (bayes.predict, bayes.confidence, lambda X: DomainRouter().fit(X, ["en"])):
        with pytest.raises(TypeError, match="one dimension, got a table, .* DataFrame. Pass one"):
            call(frame)
    assert bayes.predict(frame["text"]).tolist() == bayes.predict(list(frame["text"])).tolist()


def test_a_number_of_buckets_that_is_changed_later_is_that_of_the_next_fit(bayes):
    texts = make_texts("fr", 5)
    expected = bayes.predict_proba(texts)
    bayes.set_params(n_buckets=256)
    np.testing.assert_array_equal(bayes.predict_proba(texts), expected)
    assert bayes.add_domain("de", make_texts("de", 30)).predict(["der die das und"]).tolist() == [
        "de"
    ]
