"""Trunks of tables: numbers and categories become features."""

from collections.abc import Sequence
from typing import Literal

import torch
from rtdl_num_embeddings import PiecewiseLinearEmbeddings
from torch import Tensor, nn

from skmode._common.quiet import hide_warnings
from skmode.nn.embeddings import PeriodicBiasEmbeddings, PeriodicEmbeddings

# The scale of a feature learns this many times as fast as a weight.
SCALE_RATE = 6.0


class IdentityTrunk(nn.Module):
    """Return the numbers unchanged.

    Parameters
    ----------
    in_features : int
        Width of the input, kept as `out_features`.

    Notes
    -----
    Shape:

    - Input: `(n_samples, in_features)`; codes are not allowed
    - Output: `(n_samples, in_features)`

    Examples
    --------
    >>> import torch
    >>> from skmode.nn import IdentityTrunk
    >>> IdentityTrunk(3)(torch.ones(1, 3))
    tensor([[1., 1., 1.]])
    """

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.out_features = in_features

    def forward(self, numbers: Tensor, codes: Tensor | None = None) -> Tensor:
        """Return `numbers`; see the class for shapes."""
        if codes is not None and codes.shape[1]:
            raise ValueError(
                f"IdentityTrunk takes no categorical codes, got {codes.shape[1]} columns: "
                "use TabularTrunk."
            )
        return numbers


class RobustScaler(nn.Module):
    r"""Centre, scale and softly clip numbers, and fill in missing values.

    :math:`z = u / \sqrt{1 + (u / \mathrm{limit})^2}` with
    :math:`u = (x - \mathrm{center}) / \mathrm{scale}`. A missing value (NaN) becomes 0, the
    centre; for the columns in `missing_columns` an indicator (1 missing, 0 present) is returned
    too. The soft clipping of RealMLP (arXiv 2407.04491, section 3) is the identity near zero and
    bounded by `limit` far from it.

    Parameters
    ----------
    center : torch.Tensor of shape (n_numeric,)
        Subtracted from the columns.
    scale : torch.Tensor of shape (n_numeric,)
        Divides the columns; positive.
    missing_columns : torch.Tensor of int64 of shape (n_missing,)
        Columns that get an indicator.
    limit : float, default=3.0
        Bound of the output.

    Notes
    -----
    Shape:

    - Input: `(n_samples, n_numeric)`, NaN allowed
    - Output: scaled numbers `(n_samples, n_numeric)` and indicators `(n_samples, n_missing)`

    Examples
    --------
    >>> import torch
    >>> from skmode.nn import RobustScaler
    >>> scaler = RobustScaler(torch.tensor([10.0]), torch.tensor([2.0]), torch.tensor([0]))
    >>> numbers, missing = scaler(torch.tensor([[10.0], [float("nan")]]))
    >>> missing
    tensor([[0.],
            [1.]])
    """

    center: Tensor
    scale: Tensor
    missing_columns: Tensor

    def __init__(
        self, center: Tensor, scale: Tensor, missing_columns: Tensor, limit: float = 3.0
    ) -> None:
        super().__init__()
        self.register_buffer("center", center)
        self.register_buffer("scale", scale)
        self.register_buffer("missing_columns", missing_columns)
        self.limit = limit

    def forward(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Scale the numbers and mark missing values; see the class for shapes."""
        missing = numbers.isnan()
        # Clamped first: the square of a huge number overflows, and z would be 0 instead of limit.
        bound = 1e6 * self.limit
        scaled = ((numbers - self.center) / self.scale).clamp(-bound, bound)
        scaled = scaled.masked_fill(missing, 0.0)
        clipped = scaled / (1 + (scaled / self.limit).square()).sqrt()
        return clipped, missing.index_select(1, self.missing_columns).to(clipped.dtype)


class CategoricalEmbeddings(nn.Module):
    """Embed each categorical column; all vectors are rows of one table.

    Code 0 means a category that training did not see; its vector is always zero. Columns with at
    most `embedding_size` categories start with one-hot vectors, larger ones with random vectors
    of the same mean square.

    Parameters
    ----------
    n_categories : sequence of int
        Number of codes of each column, including code 0.
    embedding_size : int, default=8
        Width of a vector, at most the number of known categories of the largest column.

    Notes
    -----
    Shape:

    - Input: codes of int64 `(n_samples, n_columns)`
    - Output: `(n_samples, n_columns * width)`

    Examples
    --------
    >>> import torch
    >>> from skmode.nn import CategoricalEmbeddings
    >>> embed = CategoricalEmbeddings([3, 4])
    >>> embed(torch.tensor([[1, 0]]))
    tensor([[1., 0., 0., 0., 0., 0.]], grad_fn=...)
    """

    offsets: Tensor

    def __init__(self, n_categories: Sequence[int], embedding_size: int = 8) -> None:
        super().__init__()
        width = min(embedding_size, max(n_categories) - 1)
        width = max(width, 1)
        tables = []
        for count in n_categories:
            known = count - 1
            if known <= width:
                vectors = torch.eye(known, width)
            else:
                vectors = torch.randn(known, width) * width**-0.5
            tables.append(torch.cat([torch.zeros(1, width), vectors]))
        starts = torch.tensor([0, *n_categories[:-1]]).cumsum(0)
        self.table = nn.Parameter(torch.cat(tables))
        self.register_buffer("offsets", starts)
        self.out_features = len(n_categories) * width

    def forward(self, codes: Tensor) -> Tensor:
        """Look the codes up; see the class for shapes."""
        known = (codes > 0).unsqueeze(2)
        vectors = self.table[codes + self.offsets] * known
        return vectors.flatten(1)


class TabularTrunk(nn.Module):
    """Turn the columns of a table into features: embedded numbers, indicators, categories.

    Each feature is multiplied by a learned scale (the scaling layer of RealMLP, arXiv 2407.04491).
    It starts at one and learns 6 times as fast as a weight under Adam (36 times under plain
    gradient descent), so that useless features soon lose their influence.

    Parameters
    ----------
    scaler : RobustScaler or None, default=None
        Scales the numeric columns. None when there are none.
    numeric_embedding : {None, "periodic_bias", "periodic", "piecewise_linear"}, default=None
        Embedding of each scaled number. ``"periodic_bias"`` is :class:`PeriodicBiasEmbeddings`,
        the others are those of `rtdl_num_embeddings` (arXiv 2203.05556). None keeps the number.
    bins : list of torch.Tensor, default=None
        Bin edges of each column, in scaled units; needed by ``"piecewise_linear"``.
    n_categories : sequence of int, default=()
        Number of codes of each categorical column, including code 0 (unseen).
    numeric_embedding_size : int, default=8
        Width of a number's embedding.
    categorical_embedding_size : int, default=8
        Width of a category's embedding.
    n_frequencies : int, default=16
        Frequencies of the periodic embeddings.
    frequency_scale : float, default=0.1
        Standard deviation of the initial frequencies.

    Notes
    -----
    Shape:

    - Input: numbers `(n_samples, n_numeric)`, codes of int64 `(n_samples, n_categorical)`
    - Output: `(n_samples, out_features)`

    Examples
    --------
    >>> import torch
    >>> from skmode.nn import RobustScaler, TabularTrunk
    >>> scaler = RobustScaler(torch.zeros(2), torch.ones(2), torch.tensor([1]))
    >>> trunk = TabularTrunk(scaler, n_categories=[4])
    >>> trunk(torch.ones(5, 2), torch.ones(5, 1, dtype=torch.int64)).shape
    torch.Size([5, 6])
    """

    def __init__(
        self,
        scaler: RobustScaler | None = None,
        *,
        numeric_embedding: Literal["periodic_bias", "periodic", "piecewise_linear"] | None = None,
        bins: list[Tensor] | None = None,
        n_categories: Sequence[int] = (),
        numeric_embedding_size: int = 8,
        categorical_embedding_size: int = 8,
        n_frequencies: int = 16,
        frequency_scale: float = 0.1,
    ) -> None:
        super().__init__()
        self.scaler = scaler
        self.numeric: nn.Module | None = None
        self.categorical: CategoricalEmbeddings | None = None
        self.out_features = 0
        if scaler is not None:
            n_numeric = len(scaler.center)
            self.out_features += len(scaler.missing_columns)
            if numeric_embedding in ("periodic_bias", "periodic"):
                periodic = (
                    PeriodicEmbeddings
                    if numeric_embedding == "periodic"
                    else PeriodicBiasEmbeddings
                )
                self.numeric = periodic(
                    n_numeric, numeric_embedding_size, n_frequencies, frequency_scale
                )
            elif numeric_embedding == "piecewise_linear":
                if bins is None:
                    raise ValueError(
                        'numeric_embedding="piecewise_linear" needs the bin edges, got bins=None: '
                        "compute them with rtdl_num_embeddings.compute_bins on scaled numbers."
                    )
                with hide_warnings("The .* has just two bin edges"):  # one bin is fine
                    self.numeric = PiecewiseLinearEmbeddings(
                        bins, numeric_embedding_size, activation=False, version="B"
                    )
            elif numeric_embedding is not None:
                raise ValueError(
                    'numeric_embedding must be None, "periodic_bias", "periodic" or '
                    f'"piecewise_linear", got {numeric_embedding!r}: choose one of these.'
                )
            width = 1 if self.numeric is None else numeric_embedding_size
            self.out_features += n_numeric * width
        if n_categories:
            self.categorical = CategoricalEmbeddings(n_categories, categorical_embedding_size)
            self.out_features += self.categorical.out_features
        self.scale_offset = nn.Parameter(torch.zeros(self.out_features))

    @property
    def feature_scales(self) -> Tensor:
        """Scale of each feature, of shape `(out_features,)`."""
        # Adam's steps do not depend on the size of the gradient, so the factor sets the rate.
        return 1 + SCALE_RATE * self.scale_offset

    @property
    def feature_columns(self) -> Tensor:
        """Input column that each output feature is computed from.

        Columns are numbered from 0: first the columns of `numbers`, then those of `codes`.

        Notes
        -----
        Shape:

        - Output: int64 `(out_features,)`, from 0 to ``n_numeric + n_categorical - 1``

        Examples
        --------
        >>> import torch
        >>> from skmode.nn import RobustScaler, TabularTrunk
        >>> scaler = RobustScaler(torch.zeros(2), torch.ones(2), torch.tensor([1]))
        >>> TabularTrunk(scaler, n_categories=[4]).feature_columns
        tensor([0, 1, 1, 2, 2, 2])
        """
        device = self.scale_offset.device
        parts, n_numeric = [], 0
        n_embedded = self.out_features
        if self.categorical is not None:
            n_embedded -= self.categorical.out_features
        if self.scaler is not None:
            n_numeric = len(self.scaler.center)
            missing = self.scaler.missing_columns
            width = (n_embedded - len(missing)) // max(n_numeric, 1)
            parts += [torch.arange(n_numeric, device=device).repeat_interleave(width), missing]
        if self.categorical is not None:
            n_categorical = len(self.categorical.offsets)
            columns = n_numeric + torch.arange(n_categorical, device=device)
            width = self.categorical.out_features // n_categorical
            parts.append(columns.repeat_interleave(width))
        return torch.cat(parts)

    def forward(self, numbers: Tensor, codes: Tensor | None = None) -> Tensor:
        """Embed the columns side by side; see the class for shapes."""
        parts = []
        if self.scaler is not None:
            scaled, missing = self.scaler(numbers)
            parts.append(scaled if self.numeric is None else self.numeric(scaled).flatten(1))
            if missing.shape[1]:
                parts.append(missing)
        if self.categorical is not None:
            parts.append(self.categorical(codes))
        features = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        return features * self.feature_scales
