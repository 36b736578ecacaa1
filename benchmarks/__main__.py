"""Run every benchmark that states a bar: ``python -m benchmarks``; 1 if a bar is missed."""

from benchmarks import inference, inspection, quantization, routing, training

BENCHMARKS = (training, routing, inference, quantization, inspection)

if __name__ == "__main__":
    missed = [benchmark.main() for benchmark in BENCHMARKS]
    raise SystemExit(max(missed))
