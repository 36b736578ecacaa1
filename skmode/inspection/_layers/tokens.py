"""Routes of tokens through the MoDE layers of a network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from skmode.nn import MoDELayer

Array = NDArray[Any]


@contextmanager
def record_routes(model: torch.nn.Module) -> Iterator[dict[str, list[Array]]]:
    """Record the experts of each token while a model runs.

    Parameters
    ----------
    model : torch.nn.Module
        A model with one :class:`skmode.nn.MoDELayer` or more.

    Yields
    ------
    routes : dict of str to list of ndarray of int64
        For each layer, by its name in the model, one array per pass: `(*, top_k)`, the experts of
        each token by descending weight, -1 for padding. A dense gate gives all experts.

    Raises
    ------
    ValueError
        If the model has no such layer.

    See Also
    --------
    token_routes : Tokens per expert, by class or domain.

    Examples
    --------
    >>> import torch
    >>> from skmode.inspection import record_routes
    >>> from skmode.nn import MoDELayer
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 8), MoDELayer(8, top_k=2))
    >>> with record_routes(model) as routes:
    ...     output = model(torch.randn(5, 7, 3))
    >>> {name: arrays[0].shape for name, arrays in routes.items()}
    {'1': (5, 7, 2)}
    """
    layers = {name: m for name, m in model.named_modules() if isinstance(m, MoDELayer)}
    if not layers:
        raise ValueError(
            f"model must contain a skmode.nn.MoDELayer, got {type(model).__name__} without one: "
            "pass the model that has them."
        )
    routes: dict[str, list[Array]] = {name: [] for name in layers}
    with ExitStack() as stack:
        for name, layer in layers.items():

            def hook(
                module: MoDELayer, args: Any, kwargs: Any, output: Any, name: str = name
            ) -> None:
                routes[name].append(module.route(*args, **kwargs).cpu().numpy())

            stack.callback(layer.register_forward_hook(hook, with_kwargs=True).remove)
        yield routes


def token_routes(
    model: torch.nn.Module, batches: Iterable[Any], *, groups: Iterable[Any] | None = None
) -> pd.DataFrame:
    """Count the tokens of each expert in each MoDE layer, by class or domain.

    The model runs on the batches in evaluation mode and without gradients. Padding does not count.

    Parameters
    ----------
    model : torch.nn.Module
        A model with one :class:`skmode.nn.MoDELayer` or more.
    batches : iterable
        Inputs of the model: a mapping is passed as keyword arguments, a tuple or list as
        positional arguments, anything else as the only argument.
    groups : iterable of array-like, default=None
        One array per batch with the class or domain of each sequence, or of each token: its shape
        is how the shape of a layer's tokens begins. Missing ones (None, NaN) are a group of their
        own. None in the place of all arrays counts all tokens together.

    Returns
    -------
    table : DataFrame
        One row per layer, group and expert: `layer`, its name in the model; `group` if `groups`
        was passed; `expert`; `tokens`, those that have this expert as their top expert; `share`
        of them in all tokens of the layer and the group; `computed`, the tokens that the expert
        computes, which are more if a token has several experts.

    Raises
    ------
    ValueError
        If the model has no such layer, or `groups` does not fit the batches or the tokens.

    See Also
    --------
    record_routes : The experts of each single token.

    Examples
    --------
    >>> import torch
    >>> from skmode.inspection import token_routes
    >>> from skmode.nn import MoDELayer
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 8), MoDELayer(8, n_experts=2))
    >>> batches = [torch.randn(4, 10, 3), torch.randn(2, 10, 3)]
    >>> table = token_routes(model, batches, groups=[["en", "de", "en", "en"], ["de", "de"]])
    >>> table.groupby("group")["tokens"].sum()
    group
    de    30
    en    30
    Name: tokens, dtype: int64
    """
    parts = []
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        for batch, labels in _pair(batches, groups):
            with torch.no_grad(), record_routes(model) as routes:
                _call(model, batch)
            for name, arrays in routes.items():
                n_experts = model.get_submodule(name).n_experts
                parts += [_count(name, array, labels, int(n_experts)) for array in arrays]  # type: ignore[arg-type]
    finally:
        for module, training in modes:
            module.training = training
    if not parts:
        raise ValueError(
            "batches must make at least one MoDELayer run, got none that did: pass one batch or "
            "more of the model's inputs."
        )
    return _sum(pd.concat(parts), grouped=groups is not None)


def _pair(batches: Iterable[Any], groups: Iterable[Any] | None) -> Iterator[tuple[Any, Any]]:
    """Yield each batch with its groups."""
    if groups is None:
        yield from ((batch, None) for batch in batches)
        return
    missing = object()
    rest = iter(groups)
    for number, batch in enumerate(batches):
        labels = next(rest, missing)
        if labels is missing:
            raise ValueError(
                f"groups must have one array per batch, got {number} for more batches: pass one "
                "array for each."
            )
        yield batch, labels
    if next(rest, missing) is not missing:
        raise ValueError(
            "groups must have one array per batch, got more arrays than batches: leave out those "
            "without a batch."
        )


def _call(model: torch.nn.Module, batch: Any) -> None:
    if isinstance(batch, Mapping):
        model(**batch)
    elif isinstance(batch, tuple | list):
        model(*batch)
    else:
        model(batch)


def _count(layer: str, routes: Array, labels: Any, n_experts: int) -> pd.DataFrame:
    """Count the tokens of one pass through one layer."""
    shape, k = routes.shape[:-1], routes.shape[-1]
    if labels is None:
        labels = np.zeros((), dtype=np.int64)
    elif isinstance(labels, torch.Tensor):
        labels = labels.cpu()
    labels = np.asarray(labels)
    if labels.shape != shape[: labels.ndim]:
        raise ValueError(
            f"groups must have the shape of the tokens of layer {layer!r}, {shape}, or how it "
            f"begins, got {labels.shape}: pass one label per sequence or per token."
        )
    labels = labels.reshape(labels.shape + (1,) * (len(shape) - labels.ndim))
    labels = np.broadcast_to(labels, shape).reshape(-1)
    routes = routes.reshape(-1, k)
    labels, routes = labels[routes[:, 0] >= 0], routes[routes[:, 0] >= 0]
    codes, names = pd.factorize(labels, use_na_sentinel=False)  # None and NaN are a group, too
    cells = codes[:, None] * n_experts + routes
    table = pd.DataFrame(
        {
            "layer": layer,
            "group": names.repeat(n_experts),
            "expert": np.tile(np.arange(n_experts), len(names)),
        }
    )
    table["tokens"] = np.bincount(cells[:, 0], minlength=len(table))
    table["computed"] = np.bincount(cells.ravel(), minlength=len(table))
    return table


def _sum(table: pd.DataFrame, *, grouped: bool) -> pd.DataFrame:
    """Add up the passes, and append shares; layers stay in the order of the model."""
    order = {layer: i for i, layer in enumerate(table["layer"].unique())}
    table = table.groupby(["layer", "group", "expert"], as_index=False, dropna=False).sum()
    table = table.sort_values("layer", key=lambda names: names.map(order), kind="stable")
    table = table.reset_index(drop=True)
    total = table.groupby(["layer", "group"], dropna=False)["tokens"].transform("sum")
    table.insert(4, "share", table["tokens"] / total)
    return table if grouped else table.drop(columns="group")
