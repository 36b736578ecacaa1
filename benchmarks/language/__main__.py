"""Modular language models: teachers, forgetting, alpha, schedules, domains, router, setups.

    python -m benchmarks.language NAME [--minutes 3] [--seeds 0 1] [--steps N] [--device cpu]
    python -m benchmarks.language pack FILE
    python -m benchmarks.language --device cuda --minutes 8 [--data FILE]

Each experiment writes results/language_NAME.json (or the file after `--results`), and prints its
tables; router and forgetting return 1 if a bar is missed. `--minutes` is processor time; `--steps`
sets the steps of an expert instead. `pack` writes all texts into one file, for a machine without
network. Without a name it trains GPT-2 small students behind a medium teacher ("large").
"""

import argparse
from pathlib import Path

import torch

from benchmarks.language import distillation, forgetting, modules, multilingual, routing
from benchmarks.language._texts import pack

EXPERIMENTS = {
    "teacher": forgetting.teacher,
    "forgetting": forgetting.forgetting,
    "router": routing.router,
    "multilingual": multilingual.multilingual,
    "alpha": distillation.alpha,
    "setups": modules.setups,
    "schedules": distillation.schedules,
    "domains": modules.domains,
    "quantized": modules.quantized,
    "large": modules.large,
}


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Measure modular language models.")
    parser.add_argument("experiment", nargs="?", choices=[*EXPERIMENTS, "pack"], default="large")
    parser.add_argument("file", nargs="?", type=Path, help="of pack")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--steps", type=int, help="of an expert, in place of --minutes")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--data", type=Path, help="a file that pack wrote")
    parser.add_argument("--results", type=Path, help="in place of language_NAME.json")
    parser.add_argument("--student")
    parser.add_argument("--teacher")
    parser.add_argument("--vocab-size", type=int, default=2048)
    parser.add_argument("--max-length", type=int)
    parser.add_argument("--batch-size", type=int)
    options = parser.parse_args()
    if options.experiment == "pack":
        pack(options.file or Path("texts.json.gz"))
        return 0
    large = options.experiment == "large"
    options.student = options.student or ("gpt2" if large else "small")
    options.teacher = options.teacher or ("gpt2-medium" if large else "medium")
    options.max_length = options.max_length or (512 if large else 128)
    options.batch_size = options.batch_size or (32 if large else 8)
    if large:
        options.seeds = options.seeds[:1]
    torch.set_num_threads(1)
    return EXPERIMENTS[options.experiment](options)


if __name__ == "__main__":
    raise SystemExit(main())
