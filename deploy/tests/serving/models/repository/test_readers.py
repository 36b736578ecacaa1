"""Readers are not disturbed while models are replaced."""

import sys
import threading

from skmode_deploy.serving.models.repository import Repository


def test_readers_never_wait_fail_or_see_an_old_version(models, put, open_model):
    """One thread asks all the time while 200 scans exchange the version, half of them in place."""
    repository = Repository(models, open_model, report=lambda event: None, max_versions=1)
    put(models / "churn" / "1", "1")
    repository.scan()
    floor, stop, wrong, asked = [1], threading.Event(), [], 0

    def ask():
        nonlocal asked
        while not stop.is_set():
            least = floor[0]
            try:
                seen = int(repository.get("churn").text)
            except Exception as error:
                wrong.append(error)
                return
            if seen < least:
                wrong.append((seen, least))
            asked += 1

    thread = threading.Thread(target=ask)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # so that the threads take turns often
    thread.start()
    try:
        for number in range(2, 202):
            put(models / "churn" / str(number // 2), str(number))
            repository.scan()
            floor[0] = number  # from here on, nobody may get an older one
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert wrong == []
    assert asked >= 200
    assert repository.get("churn").text == "201"


def test_readers_do_not_wait_for_a_slow_model(models, put, open_model):
    started, proceed = threading.Event(), threading.Event()

    def slow(name, version, folder):
        if version == 2:
            started.set()
            assert proceed.wait(30)
        return open_model(name, version, folder)

    repository = Repository(models, slow, report=lambda event: None)
    put(models / "churn" / "1")
    repository.scan()
    put(models / "churn" / "2")
    thread = threading.Thread(target=repository.scan)
    thread.start()
    try:
        assert started.wait(30)
        assert repository.get("churn").version == repository.current("churn") == 1
        assert repository.names() == ["churn"]
        assert repository.versions("churn") == [1]
        assert len(repository.state()) == 1
    finally:
        proceed.set()
        thread.join()
    assert repository.get("churn").version == 2


def test_a_model_serves_before_the_next_one_is_loaded(models, put, open_model):
    put(models / "a" / "1")
    put(models / "b" / "1")
    served = []

    def note(name, version, folder):
        served.append(repository.names())
        return open_model(name, version, folder)

    repository = Repository(models, note, report=lambda event: None)
    repository.scan()
    assert served == [[], ["a"]]
