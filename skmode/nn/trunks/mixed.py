"""The trunk of tables with columns of texts or images: the features of all parts side by side."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from skmode.nn.trunks.images import ImageFeatures
from skmode.nn.trunks.tables import TabularTrunk
from skmode.nn.trunks.texts import TextTrunk


class MixedTrunk(nn.Module):
    """Join the features of a table's columns with those of its texts and images.

    Parameters
    ----------
    table : TabularTrunk or None
        Reads numbers and codes. None when there are none.
    texts : sequence of TextTrunk
        Reads the texts, one for each column of texts.
    images : sequence of ImageFeatures, default=()
        Reads the images, one for each column of images.

    Notes
    -----
    Shape:

    - Input: numbers and codes, as :class:`TabularTrunk` takes them, then tokens and counts of each
      column of texts, as :class:`TextTrunk` takes them, then pixels of each column of images, as
      :class:`ImageFeatures` takes them
    - Output: `(n_samples, out_features)`

    Examples
    --------
    >>> import torch
    >>> from skmode.nn import MixedTrunk, RobustScaler, TabularTrunk, TextTrunk
    >>> scaler = RobustScaler(torch.zeros(2), torch.ones(2), torch.tensor([], dtype=torch.int64))
    >>> trunk = MixedTrunk(TabularTrunk(scaler), [TextTrunk(torch.ones(9), torch.randn(9, 4))])
    >>> numbers, codes = torch.zeros(3, 2), torch.zeros(3, 0, dtype=torch.int64)
    >>> tokens, counts = torch.zeros(3, 5, dtype=torch.int64), torch.ones(3, 5)
    >>> trunk(numbers, codes, tokens, counts).shape
    torch.Size([3, 6])
    """

    def __init__(
        self,
        table: TabularTrunk | None,
        texts: Sequence[TextTrunk],
        images: Sequence[ImageFeatures] = (),
    ) -> None:
        super().__init__()
        self.table = table
        self.texts = nn.ModuleList(texts)
        self.images = nn.ModuleList(images)
        width = 0 if table is None else table.out_features
        width += sum(text.out_features for text in texts)
        self.out_features = width + sum(image.out_features for image in images)

    @property
    def feature_columns(self) -> Tensor:
        """Input column that each output feature is computed from.

        Columns are numbered from 0: those of `numbers`, those of `codes`, those of texts,
        then those of images.

        Notes
        -----
        Shape:

        - Output: int64 `(out_features,)`
        """
        parts, n_columns = [], 0
        if self.table is not None:
            parts.append(self.table.feature_columns)
            n_columns = int(parts[0].max()) + 1
        for i, part in enumerate([*self.texts, *self.images]):
            width: int = part.out_features
            column = torch.full((width,), n_columns + i)
            parts.append(column.to(next(self.parameters()).device))
        return torch.cat(parts)

    def forward(self, numbers: Tensor, codes: Tensor, *others: Tensor) -> Tensor:
        """Compute all features; see the class for shapes."""
        parts = [] if self.table is None else [self.table(numbers, codes)]
        bags, pixels = others[: 2 * len(self.texts)], others[2 * len(self.texts) :]
        pairs = zip(bags[::2], bags[1::2], strict=True)
        parts += [text(*pair) for text, pair in zip(self.texts, pairs, strict=True)]
        parts += [image(each) for image, each in zip(self.images, pixels, strict=True)]
        return torch.cat(parts, dim=1)
