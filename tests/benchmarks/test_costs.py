"""What the benchmarks of costs measure is what users pay."""

from benchmarks.costs.imports import processor_seconds


def test_imports_are_timed_as_python_does_them_by_default(monkeypatch):
    """With compiled modules, also where the environment of the benchmark keeps none."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert processor_seconds("sys; assert not sys.dont_write_bytecode") > 0
