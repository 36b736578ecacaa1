"""Build the network of a plan, and the skorch net that trains it."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from skmode import nn
from skmode._training.net import MixtureNet
from skmode._training.plan import Network, Plan
from skmode._training.rows import Rows
from skmode.nn.trunks.independence import find_dependence

OPTIMIZERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}


def build_net(plan: Plan, train: Rows) -> MixtureNet:
    """Build a net with new weights; the trainer sets alpha and balance."""
    return make_net(plan, build_module(plan.network, train))


def make_net(plan: Plan, module: torch.nn.Module) -> MixtureNet:
    """Wrap a network in a net with the optimizer of the plan."""
    net = MixtureNet(
        module.to(torch.float64 if plan.precision == "float64" else torch.float32),
        autocast=torch.bfloat16 if plan.precision == "bf16" else None,
        lr=plan.learning_rate,
        batch_size=plan.batch_size,
        device=plan.device,
        verbose=0,
        **optimizer_options(plan.optimizer, plan.weight_decays[0]),
    )
    net.initialize()
    return net


def build_module(network: Network, train: Rows) -> nn.MixtureOfExperts:
    """Build the network in float32; its trunk may take statistics from the training rows."""
    trunk = network.make_trunk(train)
    width: int = trunk.out_features  # type: ignore[assignment]
    gate_options: dict[str, Any] = {
        "hidden_layer_sizes": network.gate_hidden_layer_sizes,
        "activation": network.activation,
        "temperature": network.gate_temperature,
    }
    gate = (
        nn.SparseGate(width, network.n_experts, network.top_k, **gate_options)
        if network.gate == "sparse"
        else nn.DenseGate(width, network.n_experts, **gate_options)
    )
    experts, representation_width = build_experts(network, trunk)
    return nn.MixtureOfExperts(
        trunk,
        gate,
        experts,
        torch.nn.Linear(representation_width, network.n_outputs),
        network.make_task_loss(),
        mixing=network.mixing,
    )


def optimizer_options(optimizer: str | Callable[..., Any], weight_decay: float) -> dict[str, Any]:
    """Options of :class:`skorch.NeuralNet` that choose the optimizer."""
    if not isinstance(optimizer, str):
        if optimizer is torch.optim.LBFGS:
            raise ValueError(
                "The optimizer must step once per gradient, got LBFGS, which evaluates the loss "
                'several times: use "adamw", "adam", "sgd" or another class of torch.optim.'
            )
        options: dict[str, Any] = {"optimizer": optimizer}
        if "weight_decay" in inspect.signature(optimizer).parameters:
            options["optimizer__weight_decay"] = weight_decay
        return options
    options = {"optimizer": OPTIMIZERS[optimizer], "optimizer__weight_decay": weight_decay}
    if optimizer == "sgd":
        options["optimizer__momentum"] = 0.9
    return options | {"optimizer__fused": True}


def build_experts(
    network: Network, trunk: torch.nn.Module
) -> tuple[nn.MLPExperts | nn.ConvExperts | nn.ModuleExperts, int]:
    """The experts behind a trunk, and the width of their output."""
    in_features: int = trunk.out_features  # type: ignore[assignment]
    shape: tuple[int, ...] = getattr(trunk, "out_shape", (in_features,))
    if network.expert_module is None:
        sizes, channels = network.hidden_layer_sizes, network.expert_channels
        options = (sizes, network.activation, network.dropout)
        if len(shape) == 3 and channels:
            maps = (shape[0], shape[1], shape[2])
            return nn.ConvExperts(maps, network.n_experts, channels, *options), sizes[-1]
        return nn.MLPExperts(in_features, network.n_experts, *options), sizes[-1]
    modules: list[torch.nn.Module] = []
    widths = []
    for _ in range(network.n_experts):
        module = _make_expert(network.expert_module, shape)
        if any(module is other for other in modules):
            raise ValueError(
                "expert_module must return a new module in each call, got the same "
                f"{type(module).__name__} twice: create it inside the function."
            )
        modules.append(module)
        widths.append(_expert_width(module, shape))
    if len(set(widths)) > 1:
        raise ValueError(
            f"The experts of expert_module must all return the same width, got {widths}: "
            "end each with a layer of one width."
        )
    if len(shape) == 1:
        return nn.ModuleExperts(modules), widths[0]
    # Convolutions run faster one after the other than stacked.
    unflattened = [torch.nn.Sequential(torch.nn.Unflatten(1, shape), each) for each in modules]
    return nn.ModuleExperts(unflattened, stacked=False), widths[0]


def _make_expert(expert_module: Any, shape: tuple[int, ...]) -> torch.nn.Module:
    if isinstance(expert_module, torch.nn.Module):
        raise TypeError(
            "expert_module must be a class or function that makes an expert for each call, got "
            f"an instance of {type(expert_module).__name__}: pass the class, or a function that "
            "returns a new instance."
        )
    argument: Any = shape if len(shape) > 1 else shape[0]
    try:
        module = expert_module(argument)
    except TypeError as error:
        name = "in_shape" if len(shape) > 1 else "in_features"
        raise TypeError(
            f"expert_module must take one argument, {name} (here {argument}), but the "
            f"call failed with {error}: bind other arguments with functools.partial."
        ) from error
    if not isinstance(module, torch.nn.Module):
        raise TypeError(
            f"expert_module must return a torch.nn.Module, got {type(module).__name__}: "
            "return an instance of torch.nn.Module."
        )
    return module.to("cpu", torch.float32)


def _expert_width(module: torch.nn.Module, shape: tuple[int, ...]) -> int:
    """Width of an expert's output, found by forward passes of two rows and of one."""
    name = type(module).__name__
    wanted = f"(n_samples, {', '.join(map(str, shape))})"
    # Not zeros: a module that normalises its input would divide by zero.
    rows = torch.linspace(-1, 1, 2 * math.prod(shape)).reshape(2, *shape)
    module.eval()
    try:
        # Lazy modules draw their weights here, so each expert gets different ones.
        with torch.no_grad():
            output = module(rows.clone())  # it may change its input
    except Exception as error:
        raise ValueError(
            f"The experts of expert_module must map {wanted} to (n_samples, "
            f"width), but {name} failed on shape {(2, *shape)} with {error}: "
            f"build it for {'maps of this shape' if len(shape) > 1 else 'in_features inputs'}."
        ) from error
    if not isinstance(output, Tensor):
        raise TypeError(
            f"The experts of expert_module must return a tensor, got {type(output).__name__} from "
            f"{name}: return only the representation of the rows."
        )
    if output.ndim != 2 or output.shape[0] != 2 or output.shape[1] == 0:
        raise ValueError(
            f"The experts of expert_module must map {wanted} to (n_samples, "
            f"width), got {tuple(output.shape)} from {name} for shape {(2, *shape)}: "
            "return one row of numbers for each row."
        )
    if not output.is_floating_point() or not output.isfinite().all():
        got = "values that are not finite" if output.is_floating_point() else output.dtype
        raise ValueError(
            f"The experts of expert_module must return finite floating-point numbers, got {got} "
            f"from {name} for inputs within -1 and 1: correct its forward or its initial weights."
        )
    if output.dtype != rows.dtype:
        raise ValueError(
            f"The experts of expert_module must return {rows.dtype} for inputs of this type, got "
            f"{output.dtype} from {name}: leave out what converts them, such as .double()."
        )
    dependence = find_dependence(module, rows, output)
    if dependence is not None:
        raise ValueError(
            "The experts of expert_module must treat each row alone, got "
            f"{dependence} from {name}: in evaluation use no statistics of the batch (BatchNorm "
            "needs track_running_stats=True) and no random numbers."
        )
    module.train()
    return output.shape[1]
