"""The share of the card's peak that training reaches, and what makes the CPU wait for the card."""

from __future__ import annotations

import collections
import warnings
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu._record import Lines, Setting, Skipped, attempt
from benchmarks.gpu._tables import epoch_seconds, make_classifier, make_table, rows_of

# The share of the bf16 peak with 64 experts of width 1,024 and batches of 8,192 rows.
SHARE = 0.4
# Operations of products on tensor cores without sparsity, in units of 10^12 per second, by NVIDIA's
# data sheets; float32 without TF32 has the ordinary cores.
PEAKS: dict[str, dict[str, float]] = {
    "H200": {"bf16": 989, "tf32": 495, "float32": 67},
    "H100 PCIe": {"bf16": 756, "tf32": 378, "float32": 51},
    "H100": {"bf16": 989, "tf32": 495, "float32": 67},
    "A100": {"bf16": 312, "tf32": 156, "float32": 19.5},
    "L40S": {"bf16": 362, "tf32": 183, "float32": 91.6},
    "L4": {"bf16": 121, "tf32": 60, "float32": 30.3},
    "A10": {"bf16": 125, "tf32": 62.5, "float32": 31.2},
}


def peak(setting: Setting) -> Lines:
    """Measure the rate of one large product, then that of training."""
    listed = next((own for name, own in PEAKS.items() if name in setting.card), {})
    measured: dict[str, float] = {}
    for products in ("float32", "tf32", "bf16"):
        measured[products] = _matmul_rate(setting, products)
        line: dict[str, Any] = {"what": "one product", "products": products}
        line["tera_per_second"] = round(measured[products], 3)
        if products in listed:
            line["of_data_sheet"] = round(measured[products] / listed[products], 3)
        yield line
    width = setting.choose(1024, 16)
    for hidden in ((width,), (width, width)):
        for products in ("bf16", "tf32"):
            about = {"what": "training", "experts": setting.choose(64, 2)}
            about |= {"hidden_layer_sizes": list(hidden), "products": products}
            line = attempt(about, partial(_training_rate, setting, hidden, products))
            if "error" not in line:
                rate, best = line["tera_per_second"], listed.get(products, measured[products])
                line["of_one_product"] = round(rate / measured[products], 4)
                line["of_peak"] = round(rate / best, 4)
                line["peak_from"] = "data sheet" if products in listed else "one product"
                if products == "bf16" and not setting.quick:
                    line |= {"bar": SHARE, "holds": line["of_peak"] >= SHARE}
            yield line


def _set_products(products: str) -> None:
    torch.set_float32_matmul_precision("high" if products == "tf32" else "highest")


def _matmul_rate(setting: Setting, products: str) -> float:
    size = setting.choose(8192, 128)
    dtype = torch.bfloat16 if products == "bf16" else torch.float32
    a, b = (torch.randn(size, size, device=setting.device).to(dtype) for _ in range(2))
    before = torch.get_float32_matmul_precision()
    _set_products(products)
    try:
        a @ b
        times = setting.choose(20, 2)
        seconds = min(setting.seconds(lambda: [a @ b for _ in range(times)]) for _ in range(3))
    finally:
        torch.set_float32_matmul_precision(before)
    return 2.0 * size**3 * times / seconds / 1e12


def _training_rate(setting: Setting, hidden: tuple[int, ...], products: str) -> dict[str, Any]:
    """Floating-point operations of the products of whole steps, optimizer and all, per second."""
    batch, n_steps = setting.choose(8192, 64), setting.choose(16, 4)
    X, y = make_table(batch * n_steps)
    model = make_classifier(
        setting,
        setting.choose(64, 2),
        hidden[0],
        hidden_layer_sizes=hidden,
        batch_size=batch,
        precision="bf16" if products == "bf16" else "float32",
        max_epochs=3,
        dropout=0.0,
    )
    before = torch.get_float32_matmul_precision()
    _set_products(products)
    try:
        model.fit(X, y)
    finally:
        torch.set_float32_matmul_precision(before)
    net = model.net_
    one = rows_of(model, X[:batch], y[:batch]).to(setting.device, torch.float32)
    net.module_.train()
    with FlopCounterMode(display=False) as counter:
        net.train_step_single(one)
    net.module_.zero_grad(set_to_none=True)
    seconds = epoch_seconds(model) / n_steps
    operations = counter.get_total_flops()
    return {
        "step_seconds": round(seconds, 5),
        "tera_per_step": round(operations / 1e12, 4),
        "tera_per_second": round(operations / seconds / 1e12, 4),
        **_memory(setting),
    }


def _memory(setting: Setting) -> dict[str, float]:
    if torch.device(setting.device).type != "cuda":
        return {}
    gib = torch.cuda.max_memory_allocated(setting.device) / 2**30
    torch.cuda.reset_peak_memory_stats(setting.device)
    return {"memory_gib": round(gib, 2)}


def waits(setting: Setting) -> Lines:
    """Count what makes the CPU wait for the card, in a fit and for each epoch and step more.

    torch tells of each, with the line of code.
    """
    if torch.device(setting.device).type != "cuda" and not setting.quick:
        raise Skipped("torch tells of waits on CUDA alone")
    for gate in ("dense", "sparse"):
        one = _count(setting, gate, epochs=1, n_batches=4)
        longer = _count(setting, gate, epochs=1, n_batches=12)
        epochs = _count(setting, gate, epochs=3, n_batches=4)
        per_step = (longer.total() - one.total()) / 8
        yield {
            "gate": gate,
            "per_fit": one.total(),
            "per_epoch": (epochs.total() - one.total()) / 2,
            "per_step": per_step,
            "where": dict(one.most_common(12)),
            "holds": per_step == 0,
        }


def _count(setting: Setting, gate: str, epochs: int, n_batches: int) -> collections.Counter[str]:
    batch = setting.choose(512, 64)
    X, y = make_table(batch * n_batches)
    model = make_classifier(
        setting, 4, 16, gate=gate, balance=0.1, batch_size=batch, max_epochs=epochs
    )
    on_cuda = torch.device(setting.device).type == "cuda"
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        if on_cuda:
            torch.cuda.set_sync_debug_mode("warn")
        try:
            model.fit(X, y)
        finally:
            if on_cuda:
                torch.cuda.set_sync_debug_mode("default")
    found = [each for each in seen if "synchroniz" in str(each.message)]
    return collections.Counter(
        f"{each.filename.rpartition('/')[2]}:{each.lineno}" for each in found
    )
