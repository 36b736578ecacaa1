"""Task losses per row, and the densities that belong to them.

Likelihood mixing needs a density p(y | prediction). For a loss rho it is proportional to
exp(-rho(y - prediction) / scale) with one learned scale: the normal distribution for the squared
error, Laplace's for the absolute error, the asymmetric Laplace for the quantile loss.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CrossEntropy(nn.Module):
    """Cross entropy of integer classes, given log-probabilities.

    Notes
    -----
    Shape:

    - Input: log-probabilities `(*, n_classes)`, target of int64 `(*)`
    - Output: `(*)`
    """

    def finalize(self, output: Tensor) -> Tensor:
        """Turn the output layer's scores into log-probabilities.

        Parameters
        ----------
        output : torch.Tensor of shape (*, n_classes)
            Scores.

        Returns
        -------
        torch.Tensor of shape (*, n_classes)
            Log-probabilities.
        """
        return output.log_softmax(dim=-1)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of each row; see the class for shapes."""
        target = target.unsqueeze(-1).expand(*prediction.shape[:-1], 1)
        return -prediction.gather(-1, target).squeeze(-1)

    def soft_loss(self, prediction: Tensor, soft_target: Tensor) -> Tensor:
        """Cross entropy to a teacher's probabilities (Hinton et al., arXiv 1503.02531).

        Parameters
        ----------
        prediction : torch.Tensor of shape (*, n_classes)
            Log-probabilities.
        soft_target : torch.Tensor
            The teacher's log-probabilities; broadcasts to `prediction`.

        Returns
        -------
        torch.Tensor of shape (*)
            Cross entropy of each row.
        """
        return -(soft_target.exp() * prediction).sum(dim=-1)

    def negative_log_likelihood(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Negative log-likelihood of each row, which equals the loss.

        Parameters
        ----------
        prediction : torch.Tensor of shape (*, n_classes)
            Log-probabilities.
        target : torch.Tensor of int64 of shape (*)
            Classes.

        Returns
        -------
        torch.Tensor of shape (*)
            Negative log-likelihood.
        """
        return self(prediction, target)  # type: ignore[no-any-return]


class RegressionLoss(nn.Module):
    """Loss of real-valued predictions, averaged over the outputs of a row.

    Parameters
    ----------
    loss : {"squared_error", "absolute_error", "huber", "quantile"}, default="squared_error"
        Loss to minimise. The squared error has the factor 1/2 of a normal log density.
    quantile : float, default=0.5
        Level of the quantile loss, between 0 and 1.
    delta : float, default=1.0
        Distance at which the Huber loss turns from quadratic to linear.

    Notes
    -----
    Shape:

    - Input: prediction `(*, n_outputs)`, target that broadcasts to it
    - Output: `(*)`

    `log_scale` is the learned logarithm of the scale of the density; only
    :meth:`negative_log_likelihood` uses it.

    Examples
    --------
    >>> import torch
    >>> from skmode.nn import RegressionLoss
    >>> loss = RegressionLoss("absolute_error")
    >>> loss(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 4.0]]))
    tensor([1.5000])
    """

    def __init__(
        self, loss: str = "squared_error", quantile: float = 0.5, delta: float = 1.0
    ) -> None:
        super().__init__()
        if loss not in ("squared_error", "absolute_error", "huber", "quantile"):
            raise ValueError(
                'loss must be "squared_error", "absolute_error", "huber" or "quantile", '
                f"got {loss!r}: choose one of these."
            )
        if not 0 < quantile < 1:
            raise ValueError(
                f"quantile must lie between 0 and 1, got {quantile}: pass 0.5 for the median."
            )
        if not delta > 0:
            raise ValueError(f"delta must be above 0, got {delta}: pass for example 1.0.")
        self.loss = loss
        self.quantile = quantile
        self.delta = delta
        self.log_scale = nn.Parameter(torch.zeros(()))

    def finalize(self, output: Tensor) -> Tensor:
        """Return the output layer's values unchanged.

        Parameters
        ----------
        output : torch.Tensor of shape (*, n_outputs)
            Values.

        Returns
        -------
        torch.Tensor of shape (*, n_outputs)
            The same tensor.
        """
        return output

    def _elementwise(self, prediction: Tensor, target: Tensor) -> Tensor:
        error = target - prediction
        if self.loss == "squared_error":
            return error.square() / 2
        if self.loss == "absolute_error":
            return error.abs()
        if self.loss == "huber":
            return F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=self.delta)
        return torch.maximum(self.quantile * error, (self.quantile - 1) * error)

    def _log_normalizer(self) -> Tensor:
        """Log of the integral of exp(-rho(r) / scale) over r."""
        log_scale, scale = self.log_scale, self.log_scale.exp()
        if self.loss == "squared_error":
            return (math.log(2 * math.pi) + log_scale) / 2
        if self.loss == "absolute_error":
            return math.log(2) + log_scale
        if self.loss == "quantile":
            return log_scale - math.log(self.quantile * (1 - self.quantile))
        middle = (2 * math.pi * scale).sqrt() * torch.erf(self.delta / (2 * scale).sqrt())
        tails = 2 * scale / self.delta * torch.exp(-(self.delta**2) / (2 * scale))
        return (middle + tails).log()

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of each row; see the class for shapes."""
        return self._elementwise(prediction, target).mean(dim=-1)

    def soft_loss(self, prediction: Tensor, soft_target: Tensor) -> Tensor:
        """Half the squared error to a teacher's values, whatever the loss, averaged over outputs.

        Parameters
        ----------
        prediction : torch.Tensor of shape (*, n_outputs)
            Predicted values.
        soft_target : torch.Tensor
            The teacher's values; broadcasts to `prediction`.

        Returns
        -------
        torch.Tensor of shape (*)
            Loss of each row.
        """
        return (soft_target - prediction).square().mean(dim=-1) / 2

    def negative_log_likelihood(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Negative log density of each row, summed over the outputs.

        Parameters
        ----------
        prediction : torch.Tensor of shape (*, n_outputs)
            Predicted values.
        target : torch.Tensor
            True values; broadcasts to `prediction`.

        Returns
        -------
        torch.Tensor of shape (*)
            Negative log density.
        """
        scaled = self._elementwise(prediction, target) * (-self.log_scale).exp()
        return (scaled + self._log_normalizer()).sum(dim=-1)
