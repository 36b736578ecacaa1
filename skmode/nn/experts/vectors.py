"""Experts that read rows of numbers: multilayer perceptrons, or any modules."""

import copy
import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from skmode.nn.activations import make_activation
from skmode.nn.dropout import Dropout


class StackedLinear(nn.Module):
    """Linear layers of several experts, stored as one tensor and computed by one batched product.

    Parameters
    ----------
    n_experts : int
        Number of layers in the stack.
    in_features, out_features : int
        Widths, the same for each layer.

    Notes
    -----
    Shape:

    - Input: `(n_experts, n_samples, in_features)`
    - Output: `(n_experts, n_samples, out_features)`
    - `weight`: `(n_experts, in_features, out_features)`; `bias`: `(n_experts, 1, out_features)`

    Each layer is initialised like :class:`torch.nn.Linear`.

    Examples
    --------
    >>> import torch
    >>> from skmode.nn import StackedLinear
    >>> StackedLinear(3, 5, 2)(torch.randn(3, 7, 5)).shape
    torch.Size([3, 7, 2])
    """

    def __init__(self, n_experts: int, in_features: int, out_features: int) -> None:
        super().__init__()
        bound = max(in_features, 1) ** -0.5
        self.weight = nn.Parameter(torch.empty(n_experts, in_features, out_features))
        self.bias = nn.Parameter(torch.empty(n_experts, 1, out_features))
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Apply layer i to slice i; see the class for shapes."""
        return torch.baddbmm(self.bias, x, self.weight)


class MLPExperts(nn.Module):
    """Multilayer perceptrons of one shape, stacked and computed with batched products.

    Parameters
    ----------
    in_features : int
        Width of the input, which all experts share.
    n_experts : int
        Number of experts.
    hidden_layer_sizes : sequence of int, default=(128,)
        Widths of each expert's layers; the last one is the width of its representation.
    activation : str, default="relu"
        Activation after each layer, see :func:`skmode.nn.make_activation`.
    dropout : float, default=0.0
        Probability of zeroing a hidden unit in training.
    linear_output : bool, default=False
        Whether the last layer has neither activation nor dropout, as in the feed-forward layers of
        transformers.

    Notes
    -----
    Shape:

    - Input: `(n_samples, in_features)`
    - Output: `(n_samples, n_experts, width)`, a view of a tensor stored expert by expert

    Examples
    --------
    >>> import torch
    >>> from skmode.nn import MLPExperts
    >>> experts = MLPExperts(5, n_experts=3, hidden_layer_sizes=(16, 8))
    >>> experts(torch.randn(2, 5)).shape
    torch.Size([2, 3, 8])
    >>> experts.forward_one(torch.randn(2, 5), expert=1).shape
    torch.Size([2, 8])
    """

    linear_output = False  # older pickles have none of their own

    def __init__(
        self,
        in_features: int,
        n_experts: int,
        hidden_layer_sizes: Sequence[int] = (128,),
        activation: str = "relu",
        dropout: float = 0.0,
        linear_output: bool = False,
    ) -> None:
        super().__init__()
        if not hidden_layer_sizes:
            raise ValueError(
                "hidden_layer_sizes must name at least one layer, got (): "
                "pass for example (64,). Distillation compares the outputs of the last layer."
            )
        self.activation = make_activation(activation)
        if isinstance(self.activation, nn.ReLU):
            self.activation.inplace = True  # nothing else reads the output of the linear layers
        self.dropout = Dropout(dropout)
        self.n_experts = n_experts
        self.linear_output = linear_output
        self.width = hidden_layer_sizes[-1]
        layers = []
        for width in hidden_layer_sizes:
            layers.append(StackedLinear(n_experts, in_features, width))
            in_features = width
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate every expert on every row; see the class for shapes."""
        return self.forward_each(x.expand(self.n_experts, *x.shape)).transpose(0, 1)

    def forward_each(self, x: Tensor) -> Tensor:
        """Evaluate each expert on rows of its own.

        Parameters
        ----------
        x : torch.Tensor of shape (n_experts, n_samples, in_features)
            Rows of each expert.

        Returns
        -------
        torch.Tensor of shape (n_experts, n_samples, width)
            Each expert's representation of its rows.
        """
        for layer in self.layers:
            x = self._finish(layer(x), layer)
        return x

    def forward_one(self, x: Tensor, expert: int) -> Tensor:
        """Evaluate one expert.

        Parameters
        ----------
        x : torch.Tensor of shape (n_samples, in_features)
            Rows for this expert.
        expert : int
            Which expert, from 0 to ``n_experts - 1``.

        Returns
        -------
        torch.Tensor of shape (n_samples, width)
            The expert's representation of the rows.
        """
        for layer in self.layers:
            assert isinstance(layer, StackedLinear)
            x = self._finish(torch.addmm(layer.bias[expert], x, layer.weight[expert]), layer)
        return x

    def _finish(self, x: Tensor, layer: nn.Module) -> Tensor:
        """Apply what follows a linear layer."""
        if self.linear_output and layer is self.layers[-1]:
            return x
        return self.dropout(self.activation(x))  # type: ignore[no-any-return]


class ModuleExperts(nn.Module):
    """Experts made of any torch modules.

    Modules that differ only in the values of their parameters and buffers, and share none of them,
    are stacked and evaluated with :func:`torch.func.vmap`, or in a loop if vmap fails (for example
    on control flow that depends on values), by one thread at a time. Other modules are kept
    separate and evaluated in a loop; what they share stays shared.

    Parameters
    ----------
    modules : sequence of torch.nn.Module
        One module per expert; each maps `(n_samples, in_features)` to `(n_samples, width)`. Their
        weights are copied.
    stacked : bool, default=True
        Whether to stack modules that are alike. Convolutions run faster in a loop on a CPU.

    Notes
    -----
    Shape:

    - Input: `(n_samples, in_features)`, or whatever the modules take with rows first
    - Output: `(n_samples, n_experts, width)`

    Examples
    --------
    >>> import torch
    >>> from skmode.nn import ModuleExperts
    >>> experts = ModuleExperts([torch.nn.Linear(5, 4) for _ in range(3)])
    >>> experts(torch.randn(2, 5)).shape
    torch.Size([2, 3, 4])
    """

    def __init__(self, modules: Sequence[nn.Module], stacked: bool = True) -> None:
        super().__init__()
        if not modules:
            raise ValueError("modules must hold one expert or more, got none: pass one per expert.")
        self.n_experts = len(modules)
        self._turn = threading.RLock()
        self.vectorized = False
        self.separate: nn.ModuleList | None = None
        if not (stacked and _stackable(modules)):
            self.separate = nn.ModuleList(copy.deepcopy(list(modules)))
            return
        self.vectorized = True
        # Each call puts weights into it for a while, so threads take turns. In a list, so that its
        # own weights are not registered as parameters.
        self.skeleton = [copy.deepcopy(modules[0])]
        self.stacked = nn.ParameterDict()
        self.parameter_names = [name for name, _ in modules[0].named_parameters()]
        self.buffer_names = [name for name, _ in modules[0].named_buffers()]
        for name in self.parameter_names:
            values = [module.get_parameter(name).detach() for module in modules]
            trainable = modules[0].get_parameter(name).requires_grad
            self.stacked[_mangle(name)] = nn.Parameter(torch.stack(values), trainable)
        for name in self.buffer_names:
            values = [module.get_buffer(name).detach() for module in modules]
            self.register_buffer(_mangle(name), torch.stack(values))

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate every expert on every row; see the class for shapes."""
        if self.vectorized:
            try:
                return self._forward_vectorized(x)
            except (RuntimeError, ValueError):
                # vmap does not support this module; any other mistake is raised by the loop below.
                pass
        outputs = torch.stack([self.forward_one(x, i) for i in range(self.n_experts)], dim=1)
        self.vectorized = False
        return outputs

    def forward_one(self, x: Tensor, expert: int) -> Tensor:
        """Evaluate one expert.

        Parameters
        ----------
        x : torch.Tensor of shape (n_samples, in_features)
            Rows for this expert.
        expert : int
            Which expert, from 0 to ``n_experts - 1``.

        Returns
        -------
        torch.Tensor of shape (n_samples, width)
            The expert's representation of the rows.
        """
        x = x.clone()  # a module may change its input, which gate and other experts read, too
        if self.separate is not None:
            return _checked(self.separate[expert](x))
        state = {name: values[expert] for name, values in self._state().items()}
        buffers = {name: state[name] for name in self.buffer_names} if self.training else {}
        # On copies, which a backward pass may need as they are now.
        state |= {name: value.clone() for name, value in buffers.items()}
        with self._turn:
            skeleton = self.skeleton[0].train(self.training)
            output = _checked(functional_call(skeleton, state, (x,)))
        for name, value in buffers.items():
            _keep(state[name], value)  # the module may have assigned a new tensor
        return output

    def expert(self, i: int) -> nn.Module:
        """Copy one expert out, as a module of its own.

        Parameters
        ----------
        i : int
            Which expert, from 0 to ``n_experts - 1``.

        Returns
        -------
        torch.nn.Module
            A copy of the module that was passed in, with the current weights, device, dtype and
            mode. It shares no memory with the experts.

        Raises
        ------
        IndexError
            If there is no such expert.

        Examples
        --------
        >>> import torch
        >>> from skmode.nn import ModuleExperts
        >>> experts = ModuleExperts([torch.nn.Linear(5, 4) for _ in range(3)])
        >>> experts.expert(1)
        Linear(in_features=5, out_features=4, bias=True)
        """
        if not 0 <= i < self.n_experts:
            raise IndexError(
                f"i must lie between 0 and {self.n_experts - 1}, got {i}: count experts from 0."
            )
        if self.separate is not None:
            return copy.deepcopy(self.separate[i])
        with self._turn:
            module = copy.deepcopy(self.skeleton[0]).train(self.training)
        values = {name: value[i].detach().clone() for name, value in self._state().items()}
        # Set the data of the existing tensors, so that tied weights stay tied.
        for name in self.parameter_names:
            module.get_parameter(name).data = values[name]
        for name in self.buffer_names:
            module.get_buffer(name).data = values[name]
        return module

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_turn"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._turn = threading.RLock()

    def _state(self) -> dict[str, Tensor]:
        parameters = {name: self.stacked[_mangle(name)] for name in self.parameter_names}
        return parameters | {name: self.get_buffer(_mangle(name)) for name in self.buffer_names}

    def _forward_vectorized(self, x: Tensor) -> Tensor:
        skeleton = self.skeleton[0]

        def one(state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
            output = functional_call(skeleton, state, (x.clone(),))
            # A module may assign new tensors to its buffers, which `state` then holds.
            return output, {name: state[name] for name in self.buffer_names}

        state = self._state()
        # On copies: BatchNorm changes its buffers, and vmap may still fail on a later module.
        changed = {name: state[name].clone() for name in self.buffer_names}
        with self._turn:
            skeleton.train(self.training)
            evaluate = vmap(one, out_dims=(1, 0), randomness="different")
            outputs, changed = evaluate(state | changed)
        for name, value in changed.items():
            _keep(value, state[name])
        return outputs


def _checked(output: Any) -> Tensor:
    """Raise unless a module returned a tensor alone."""
    if not isinstance(output, Tensor):
        raise TypeError(
            f"Experts must return a tensor, got {type(output).__name__}: return only the "
            "representation of the rows."
        )
    return output


def _keep(value: Tensor, buffer: Tensor) -> None:
    """Store what a forward pass has made of a buffer; what has another shape is a mere cache."""
    if value.shape == buffer.shape:
        with torch.no_grad():
            buffer.copy_(value)


def _mangle(name: str) -> str:
    # The prefix avoids clashes with attributes of this module and of ParameterDict, such as `keys`.
    return "expert__" + name.replace(".", "__")


def _stackable(modules: Sequence[nn.Module]) -> bool:
    """Whether the modules differ only in the values of their parameters and buffers.

    They must not share any, for each would get its own copy, and they would learn apart.
    """
    held = [{id(value) for value in _tensors(module)} for module in modules]
    if len(set().union(*held)) < sum(map(len, held)):
        return False
    # `named_parameters` yields tied parameters once, so equal names mean that the same are tied.
    names = [[name for name, _ in module.named_parameters()] for module in modules]
    states = [*names[0], *(name for name, _ in modules[0].named_buffers())]
    distinct = len({_mangle(name) for name in states}) == len(states)
    alike = all(own == names[0] for own in names)
    return distinct and alike and all(_same_structure(modules[0], module) for module in modules)


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _same_structure(first: nn.Module, second: nn.Module) -> bool:
    if type(first) is not type(second):
        return False
    if _tensor_kinds(first) != _tensor_kinds(second) or not _same_attributes(first, second):
        return False
    children, others = dict(first.named_children()), dict(second.named_children())
    return children.keys() == others.keys() and all(
        _same_structure(children[name], others[name]) for name in children
    )


def _tensor_kinds(module: nn.Module) -> dict[str, tuple[object, ...]]:
    """Shape, type and trainability of the module's own parameters and buffers."""
    tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    return {name: (value.shape, value.dtype, value.requires_grad) for name, value in tensors}


def _same_attributes(first: nn.Module, second: nn.Module) -> bool:
    """Whether all other attributes, including hooks, are equal; False if that is unclear."""
    held = ("_parameters", "_buffers", "_modules")
    ours, theirs = ({k: v for k, v in vars(m).items() if k not in held} for m in (first, second))
    try:
        return bool(ours == theirs)
    except (RuntimeError, TypeError, ValueError):
        return False
