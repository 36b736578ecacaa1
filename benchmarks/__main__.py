"""Run every benchmark that states a bar, one after the other: ``python -m benchmarks``."""

from benchmarks import routing, training

if __name__ == "__main__":
    for benchmark in (training, routing):
        benchmark.main()
