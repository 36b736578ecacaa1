import pytest

from skmode.datasets import fetch_spam_assassin, fetch_texts


@pytest.mark.slow
def test_topics(data_home):
    news = fetch_texts("reuters-r52", data_home=data_home)
    assert len(news.data) == len(news.target) == 6532
    assert len(news.target_names) == 52
    assert "" not in news.target_names
    texts, target = fetch_texts("reuters-r8", subset="all", data_home=data_home, return_X_y=True)
    assert len(texts) == len(target) == 5485 + 2189
    test = fetch_texts("20newsgroups", subset="test", data_home=data_home)
    assert len(test.data) == 7528
    assert len(test.target_names) == 20


@pytest.mark.slow
def test_mails(data_home):
    mails = fetch_spam_assassin(data_home=data_home)
    assert len(mails.data) == 6046
    assert (mails.target == "spam").mean().round(2) == 0.31
    assert not any("Received: from localhost" in text[:200] for text in mails.data)


def test_unknown_sets_are_refused(tmp_path):
    with pytest.raises(ValueError, match="name must be one of 20newsgroups, reuters-r8"):
        fetch_texts("r8", data_home=tmp_path)
    with pytest.raises(ValueError, match="subset must be one of train, test, all"):
        fetch_texts("reuters-r8", subset="valid", data_home=tmp_path)
