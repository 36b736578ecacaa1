"""Run every benchmark that states a bar: ``python -m benchmarks``; 1 if a bar is missed."""

from benchmarks import inference, quantization, routing, training

if __name__ == "__main__":
    missed = [benchmark.main() for benchmark in (training, routing, inference, quantization)]
    raise SystemExit(max(missed))
