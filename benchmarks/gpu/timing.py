"""How long `fit` takes: by rows, experts, width and precision, compiled, and against the CPU."""

from __future__ import annotations

import itertools
import os
import statistics
import time
from functools import partial
from typing import Any

import torch

from benchmarks.gpu._record import Lines, Setting, attempt
from benchmarks.gpu._tables import epoch_seconds, make_classifier, make_table, rows_of
from skmode import MoDEClassifier
from skmode._training.evaluation import evaluate_experts

# What a million rows may take for an epoch, with 8 experts of width 256.
SECONDS_OF_A_MILLION = 2.0
# Small tables: how much longer than on the CPU a GPU may take.
SLOWER = 2.0
# Of torch: float32 products in full, or rounded to 10 bits ("TF32").
PRODUCTS = {"float32": "highest", "tf32": "high", "bf16": "highest"}


def fits(setting: Setting) -> Lines:
    """Time epochs; the large sizes come last, and the line of the bar first."""
    million = setting.choose(1_000_000, 500)
    yield _fit(setting, million, 8, setting.choose(256, 8), "float32", setting.choose(8192, 128))
    rows = setting.choose((10_000, 100_000, 1_000_000), (300,))
    shapes = list(itertools.product(setting.choose((4, 64), (2,)), setting.choose((64, 512), (8,))))
    for n_rows in rows:
        for n_experts, width in shapes:
            for products in PRODUCTS:
                batch = min(setting.choose(8192, 128), n_rows // 4)
                yield _fit(setting, n_rows, n_experts, width, products, batch)
        if n_rows < 1_000_000:  # the default batch, which is small for a GPU
            yield _fit(setting, n_rows, 4, setting.choose(128, 8), "float32", "auto")


def _fit(
    setting: Setting,
    n_rows: int,
    n_experts: int,
    width: int,
    products: str,
    batch_size: int | str,
) -> dict[str, Any]:
    about = {"rows": n_rows, "experts": n_experts, "width": width, "products": products}
    model = make_classifier(
        setting,
        n_experts,
        width,
        batch_size=batch_size,
        precision="bf16" if products == "bf16" else "float32",
        max_epochs=3,
    )
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(PRODUCTS[products])
    try:
        line = attempt(about, partial(_time_fit, setting, model, n_rows))
    finally:
        torch.set_float32_matmul_precision(before)
    if (n_rows, n_experts, width) == (1_000_000, 8, 256) and "epoch_seconds" in line:
        holds = line["epoch_seconds"] <= SECONDS_OF_A_MILLION
        line |= {"bar": SECONDS_OF_A_MILLION, "holds": holds}
    return line


def _time_fit(setting: Setting, model: MoDEClassifier, n_rows: int) -> dict[str, Any]:
    total = setting.seconds(partial(model.fit, *make_table(n_rows)))
    seconds = epoch_seconds(model)
    evaluated = _evaluation(setting, model, min(n_rows, 100_000))
    return {
        "batch_size": model.net_.batch_size,
        "fit_seconds": round(total, 4),
        "epoch_seconds": round(seconds, 4),
        "first_epoch_seconds": round(model.history_[0]["dur"], 4),
        "rows_per_second": round(n_rows / seconds),
        "evaluated_per_second": round(evaluated),
        "evaluation_slower": bool(evaluated < n_rows / seconds),
    }


def _evaluation(setting: Setting, model: MoDEClassifier, n_rows: int) -> float:
    """Rows that are evaluated in a second, as after each epoch: every expert on every row."""
    module = model.net_.module_
    rows = rows_of(model, *make_table(n_rows)).to(setting.device, torch.float32)
    with torch.inference_mode():
        evaluate_experts(module, rows)
        return n_rows / setting.seconds(lambda: evaluate_experts(module, rows))


def small(setting: Setting) -> Lines:
    """Compare small tables with the CPU, and tell what device="auto" chooses."""
    for n_rows in setting.choose((500, 2_000, 10_000, 30_000), (200,)):
        X, y = make_table(n_rows)
        seconds: dict[str, float] = {}
        for name, device in (("device", setting.device), ("cpu", "cpu")):
            options: dict[str, Any] = {"random_state": 0, "max_epochs": setting.choose(20, 2)}
            model = MoDEClassifier(device=device, **options)
            model.fit(X, y)  # starts what is started once
            times = [setting.seconds(partial(model.fit, X, y)) for _ in range(3)]
            seconds[name] = statistics.median(times)
        chosen = MoDEClassifier(max_epochs=1, random_state=0).fit(X, y).device_
        ratio = seconds["device"] / seconds["cpu"]
        yield {
            "rows": n_rows,
            "seconds": {name: round(each, 4) for name, each in seconds.items()},
            "cpu_threads": torch.get_num_threads(),
            "ratio": round(ratio, 3),
            "auto": chosen,
            "auto_is_faster": bool((chosen == "cpu") == (ratio > 1)),
            **({} if setting.quick else {"bar": SLOWER, "holds": bool(ratio <= SLOWER)}),
        }


def compiled(setting: Setting) -> Lines:
    """Compile the network from outside, also into CUDA graphs, and go on with a warm start.

    Batches are all of one size, and there is no dropout, whose generator would break the graph.
    """
    modes: dict[str, dict[str, Any]] = {"torch.compile": {}}
    if setting.on_gpu:
        modes["CUDA graphs"] = {"mode": "reduce-overhead"}
    if setting.quick:
        modes = {"torch.compile": {"backend": "eager"}}
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "4")
    full = ((4, 64, "float32"), (64, 512, "bf16"))
    for n_experts, width, products in setting.choose(full, ((2, 8, "float32"),)):
        for name, options in modes.items():
            yield _compiled(setting, n_experts, width, products, name, options)


def _compiled(
    setting: Setting,
    n_experts: int,
    width: int,
    products: str,
    name: str,
    options: dict[str, Any],
) -> dict[str, Any]:
    batch = setting.choose(4096, 64)
    X, y = make_table(16 * batch)
    model = make_classifier(
        setting,
        n_experts,
        width,
        batch_size=batch,
        precision=products,
        dropout=0.0,
        max_epochs=4,
        warm_start=True,
    )
    model.fit(X, y)
    plain = epoch_seconds(model)
    line: dict[str, Any] = {"experts": n_experts, "width": width, "products": products, "as": name}
    line["plain_epoch_seconds"] = round(plain, 5)
    module = model.net_.module_
    try:
        module.compile(**options)
        start = time.perf_counter()
        model.fit(X, y)
        line["compile_seconds"] = round(time.perf_counter() - start, 2)
        model.fit(X, y)
        line["epoch_seconds"] = round(epoch_seconds(model), 5)
        line["times_as_fast"] = round(plain / line["epoch_seconds"], 3)
    except Exception as error:  # the next one may work
        line["failed"] = f"{type(error).__name__}: {str(error)[:500]}"
    finally:
        module._compiled_call_impl = None
        torch.compiler.reset()
    return line
