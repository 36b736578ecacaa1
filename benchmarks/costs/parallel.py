"""Steps of fits by several processes: what they cost, and what a model of them says for more.

Run with

    python -m benchmarks.costs.parallel [--latency-us 50] [--gbit 10]

which times steps of one process and of two (gloo on loopback, one thread each), and sums over both
of tensors of several sizes. From one process and from the sums it predicts the step of two, prints
that beside the one measured, and goes on to more processes on a network of this latency and
bandwidth. All of it goes to results/parallel.json.

Each step is timed twice, by the clock and in processor seconds of a process. Where other work takes
part of the cores, the former say little, and the latter leave out only the waiting.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parents[1] / "results"
# Experts and units of the networks, and rows of a batch of all processes together.
CASES = {
    "default": ({}, 1024),
    "K=8 of 512": ({"n_experts": 8, "hidden_layer_sizes": (512,)}, 4096),
}
COLUMNS, STEPS = 20, 24
# Numbers in the tensors that are summed.
SIZES = (2**6, 2**14, 2**18, 2**20, 2**22)
REPEATS = 15
WORKERS = (2, 8, 32, 128, 512)


def time_steps(options: dict[str, Any], batch_size: int) -> dict[str, float]:
    """Median seconds of a training step, and the number of weights."""
    from skorch.callbacks import Callback

    from skmode import MoDERegressor

    class Clock(Callback):
        def __init__(self) -> None:
            self.ends: list[tuple[float, float]] = []

        def on_batch_end(self, net: Any, **kwargs: Any) -> None:
            self.ends.append((time.perf_counter(), time.process_time()))

    rng = np.random.default_rng(0)
    X = rng.standard_normal((batch_size * STEPS, COLUMNS), dtype=np.float32)
    y = X[:, 0] * X[:, 1] + np.sin(X[:, 2])
    clock = Clock()
    model = MoDERegressor(
        batch_size=batch_size,
        max_epochs=1,
        early_stopping=False,
        random_state=0,
        callbacks=[clock],
        **options,
    ).fit(X, y)
    n_weights = sum(each.numel() for each in model.net_.module_.parameters())
    clock_seconds, processor_seconds = np.median(np.diff(clock.ends, axis=0)[2:], axis=0)
    return {"clock": clock_seconds, "processor": processor_seconds, "weights": n_weights}


def work(rank: int, world: int, store: str) -> dict[str, Any]:
    """Measure in one process of `world`."""
    import torch
    import torch.distributed as dist

    from skmode._training.process.ranks import together

    torch.set_num_threads(1)
    if world == 1:
        parts = {
            name: {rows: time_steps(options, rows) for rows in (batch_size, batch_size // 2)}
            for name, (options, batch_size) in CASES.items()
        }
        return {"steps": parts}
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    sums = {}
    with together() as ranks:
        assert ranks is not None
        for size in SIZES:
            tensor = torch.ones(size)
            times = []
            for _ in range(REPEATS):
                ranks.wait()
                begun = time.perf_counter()
                ranks.add(tensor)
                times.append(time.perf_counter() - begun)
            sums[size] = min(times)
    steps = {name: time_steps(options, rows) for name, (options, rows) in CASES.items()}
    return {"sums": sums, "steps": steps}


def measure(world: int) -> dict[str, Any]:
    """Start processes, and return what the first one measured."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.costs.parallel", "--world", str(world)]
        command += ["--store", str(Path(folder) / "store")]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        processes = [
            subprocess.Popen(
                [*command, "--rank", str(rank)], stdout=subprocess.PIPE, text=True, env=environment
            )
            for rank in range(world)
        ]
        outputs = [process.communicate(timeout=1800)[0] for process in processes]
    found: dict[str, Any] = json.loads(outputs[0].splitlines()[-1])
    return found


def fit_line(sums: dict[int, float]) -> tuple[float, float]:
    """Seconds of a sum over two processes: a constant, and seconds per byte."""
    sizes = np.array([4 * size for size in sums])
    seconds = np.array(list(sums.values()))
    per_byte, constant = np.polyfit(sizes, seconds, 1, w=1 / seconds)
    return max(float(constant), 0.0), float(per_byte)


def sum_seconds(n_bytes: float, world: int, latency: float, per_byte: float) -> float:
    """A ring: 2 (W - 1) messages of 1/W of the bytes, one after the other."""
    return 2 * (world - 1) * (latency + per_byte * n_bytes / world)


def reckon(
    whole: float, half: float, batch_size: int, n_bytes: int, network: tuple[float, float]
) -> dict[int, dict[str, float]]:
    """Steps of more processes: of one batch for all together, and of such a batch for each."""
    # Time that does not depend on the rows, and time of each row.
    per_row = max(whole - half, 0.0) / (batch_size - batch_size // 2)
    fixed = max(whole - batch_size * per_row, 0.0)
    steps = {}
    for world in WORKERS:
        talk = sum_seconds(n_bytes, world, *network)
        shared, own = (fixed + rows * per_row + talk for rows in (batch_size / world, batch_size))
        steps[world] = {
            "step, batch for all": shared,
            "rows per second, batch for all": batch_size / shared,
            "step, batch for each": own,
            "rows per second, batch for each": world * batch_size / own,
        }
    return steps


def report(network: tuple[float, float]) -> dict[str, Any]:
    """Measure, predict and compare."""
    one, two = measure(1), measure(2)
    sums = {int(size): seconds for size, seconds in two["sums"].items()}
    constant, own_per_byte = fit_line(sums)
    found: dict[str, Any] = {"seconds of sums, by numbers": sums, "cases": {}}
    for name, (_, batch_size) in CASES.items():
        whole, half = (one["steps"][name][str(rows)] for rows in (batch_size, batch_size // 2))
        both = two["steps"][name]
        n_bytes = 4 * int(whole["weights"])
        talk = sum_seconds(n_bytes, 2, constant / 2, own_per_byte)
        predicted = {"clock": half["clock"] + talk, "processor": half["processor"]}
        found["cases"][name] = {
            "batch": batch_size,
            "weights": int(whole["weights"]),
            "sum of the gradients of two, predicted": talk,
            "measured / predicted": {each: both[each] / predicted[each] for each in predicted},
            "one process": whole,
            "one process, half of the batch": half,
            "two processes": both,
            "two processes, predicted": predicted,
            "reckoned on the network": reckon(
                whole["processor"], half["processor"], batch_size, n_bytes, network
            ),
        }
    return found


def main() -> None:
    """Run the command of the module's docstring."""
    parser = argparse.ArgumentParser(description="Costs of fits by several processes.")
    parser.add_argument("--latency-us", type=float, default=50.0)
    parser.add_argument("--gbit", type=float, default=10.0)
    for name in ("world", "rank"):
        parser.add_argument(f"--{name}", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--store", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.world:
        print(json.dumps(work(args.rank, args.world, args.store)))
        return
    load = os.getloadavg()[0]
    found = report((args.latency_us / 1e6, 8 / (args.gbit * 1e9)))
    found |= {
        "network": {"latency_us": args.latency_us, "gbit": args.gbit},
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "load before": load,
        },
    }
    text = json.dumps(found, indent=1)
    print(text)
    (RESULTS / "parallel.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
