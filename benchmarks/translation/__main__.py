"""Does mutual distillation help experts inside a transformer? German to English, as in the paper.

    python -m benchmarks.translation [--minutes 60] [--seeds 3] [--steps 800] [--device cpu]

trains a small encoder-decoder whose feed-forward layers are MoDE layers of four experts: one or two
experts per token, alpha 0, 0.1 and 1, and beside them dense layers as wide as one and as two
experts, which cost as much in use. With one expert per token all four are distilled, so that
training computes them all. Networks with two experts per token are also measured with the top one
alone. Runs that results/translation.jsonl has are not repeated. --report only prints the table;
--quick tries all of it in a minute, on few texts. It needs the extra `examples`, and Debian's
apt-get for the texts.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.translation import _texts
from benchmarks.translation._model import Size
from benchmarks.translation._report import report
from benchmarks.translation._run import Setting, Tokens, run
from benchmarks.translation._texts import Texts

PATH = Path(__file__).parents[1] / "results" / "translation.jsonl"
# If the time ends early, the comparisons that matter most are complete.
CASES = (
    "top-2, alpha=0",
    "top-2, alpha=1",
    "dense 2x",
    "top-2, alpha=0.1",
    "top-1, alpha=0",
    "dense 1x",
    "top-1, alpha=1",
    "top-1, alpha=0.1",
)
TEST_PAIRS = 600
QUICK = Setting(2, Size(16, 2, 1, 16), n_tokens=300, batch_tokens=200, max_length=12)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the file lacks, and print the table."""
    parser = argparse.ArgumentParser(description="Mixtures of experts that translate.")
    parser.add_argument("--minutes", type=float, default=60, help="start no run that ends later")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=800, help="optimizer steps of each run")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, default=PATH, help="file of results")
    parser.add_argument("--quick", action="store_true", help="tiny networks and few texts")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    setting = QUICK if args.quick else Setting(args.steps)
    if not args.report:
        measure_missing(args.output, setting, args.seeds, args.minutes, args.device, args.quick)
    lines = [line for line in read(args.output) if line["setting"] == dataclasses.asdict(setting)]
    if not lines:
        print(f"No results with these settings in {args.output}.")
        return
    table = report(lines)
    for row in (table.columns, ["---"] * table.shape[1], *table.itertuples(index=False)):
        print("| " + " | ".join(map(str, row)) + " |")


def measure_missing(
    path: Path, setting: Setting, n_seeds: int, minutes: float, device: str, quick: bool
) -> None:
    """Run seed by seed until the time is over, with a reserve of the longest run so far."""
    start, longest = time.monotonic(), 0.0
    described = dataclasses.asdict(setting)
    done = {(x["case"], x["seed"]) for x in read(path) if x["setting"] == described}
    texts = some(_texts.load_texts(), 200, 20) if quick else _texts.load_texts()
    texts = some(texts, len(texts.train), TEST_PAIRS)
    tokens = Tokens(texts.train, setting.n_tokens)
    for seed, case in itertools.product(range(n_seeds), CASES):
        if (case, seed) in done:
            continue
        begin = time.monotonic()
        if begin - start + longest > 60 * minutes:
            print(f"The time is over before {case!r} with seed {seed}.")
            return
        line = {"case": case, "seed": seed, "device": device, "torch": torch.__version__}
        line |= run(case, seed, texts, tokens, setting, device) | {"setting": described}
        with path.open("a") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
        longest = max(longest, time.monotonic() - begin)


def some(texts: Texts, n_train: int, n_test: int) -> Texts:
    """Keep so many pairs; those of the test page by page."""
    return Texts(texts.train[:n_train], texts.valid, texts.test[:n_test])


def read(path: Path) -> list[dict[str, Any]]:
    """Return the results so far."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines()]


if __name__ == "__main__":
    main()
