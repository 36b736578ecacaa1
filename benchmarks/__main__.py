"""Run every benchmark that states a bar: ``python -m benchmarks``; 1 if a bar is missed."""

from benchmarks.costs import corners, imports, inspection, routing, training
from benchmarks.serving import inference, quantization

BENCHMARKS = (training, routing, inference, quantization, inspection, corners, imports)

if __name__ == "__main__":
    missed = [benchmark.main() for benchmark in BENCHMARKS]
    raise SystemExit(max(missed))
