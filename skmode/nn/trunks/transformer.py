"""The trunk of texts whose order counts: a transformer between the tokens and their sum."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from skmode.nn.dropout import Dropout
from skmode.nn.mixture import MoDELayer
from skmode.nn.trunks.texts import TABLE_RATE, TextTrunk

# Positions, padding included, that are computed at once where no gradients are needed.
CELLS = {"cpu": 2**13, "cuda": 2**18}


class TransformerBlock(nn.Module):
    """Attention among the tokens of a text, then a feed-forward layer of experts.

    Both normalise what they read, and add their results to it. At the start the attention adds
    nothing.

    Parameters
    ----------
    width : int
        Width of a token's vector.
    n_heads : int
        Heads of the attention; they divide `width`.
    n_experts : int
        Experts of the feed-forward layer, of which the best two compute a token.
    dropout : float
        Probability that a number is left out of what is added, in training.

    Notes
    -----
    Shape:

    - Input: vectors `(n_samples, length, width)`, those of positions `(length, width)`, and bools
      `(n_samples, length)`, True where a token is padding
    - Output: `(n_samples, length, width)`
    """

    def __init__(self, width: int, n_heads: int, n_experts: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, n_heads, batch_first=True)
        nn.init.zeros_(self.attention.out_proj.weight)
        self.experts_norm = nn.LayerNorm(width)
        top_k = min(2, n_experts)
        # Two of these cost as much as one feed-forward layer of the usual four times the width.
        self.experts = MoDELayer(
            width,
            n_experts,
            hidden_width=2 * width,
            top_k=top_k,
            alpha=0.0,
            activation="gelu",
        )
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, positions: Tensor, padding: Tensor) -> Tensor:
        """Compute the block; see the class for shapes."""
        normed = self.attention_norm(x) + positions
        # A text without tokens would attend to nothing, which is NaN; nobody reads the result.
        hidden = padding & ~padding.all(dim=1, keepdim=True)
        attended = self.attention(
            normed, normed, normed, key_padding_mask=hidden, need_weights=False
        )[0]
        x = x + self.dropout(attended)
        computed: Tensor = self.experts(self.experts_norm(x), padding)
        added: Tensor = x + self.dropout(computed)
        return added


class TransformerTrunk(TextTrunk):
    """Turn tokens in their order into features: a transformer, and the weighted sum of its results.

    The transformer is bidirectional, and its feed-forward layers are :class:`MoDELayer`. Tokens are
    looked up, weighed and summed as by :class:`TextTrunk`; between look-up and sum each of them
    learns of the others and of its position. At the start the last layers of attention give zero.

    Parameters
    ----------
    idf : torch.Tensor of shape (n_tokens,)
        Inverse document frequency of each token at the start; it is trained further.
    vectors : torch.Tensor of shape (n_tokens, width)
        Vector of each token at the start.
    max_tokens : int
        Tokens of a text, at most.
    n_layers : int, default=1
        Number of blocks of attention and experts.
    n_heads : int, default=4
        Heads of each attention; they divide the width.
    n_experts : int, default=4
        Experts of each feed-forward layer, of which two compute a token.
    block_dropout : float, default=0.0
        Probability of leaving out a number of what attention or experts add, in training.
    dropout : float, default=0.0
        Probability that a token is left out of the sum in training.
    frozen : bool, default=False
        Whether `idf` and `vectors` stay as they are.

    Notes
    -----
    Shape:

    - Input: ids of each text's tokens in their order, int64 or int32 `(n_samples, length)`, and
      floats of the same shape: 1 for a token, 0 for padding
    - Output: `(n_samples, width)`

    :func:`skmode.nn.auxiliary_loss` sums the losses of its layers; as the trunk of a
    :class:`MixtureOfExperts` they are part of the mixture's.

    Examples
    --------
    >>> import torch
    >>> from skmode.nn import TransformerTrunk
    >>> trunk = TransformerTrunk(torch.ones(3), torch.randn(3, 8), max_tokens=5)
    >>> trunk(torch.tensor([[2, 1, 0]]), torch.tensor([[1.0, 1.0, 0.0]])).shape
    torch.Size([1, 8])
    """

    def __init__(
        self,
        idf: Tensor,
        vectors: Tensor,
        max_tokens: int,
        n_layers: int = 1,
        n_heads: int = 4,
        n_experts: int = 4,
        block_dropout: float = 0.0,
        dropout: float = 0.0,
        *,
        frozen: bool = False,
    ) -> None:
        super().__init__(idf, vectors, dropout, frozen=frozen)
        width = self.out_features
        if width % n_heads:
            raise ValueError(
                f"The width must be a multiple of n_heads={n_heads}, got {width}: change one."
            )
        self.positions = nn.Parameter(_waves(max_tokens, width))
        self.blocks = nn.ModuleList(
            TransformerBlock(width, n_heads, n_experts, block_dropout) for _ in range(n_layers)
        )

    def features(self, tokens: Tensor, weights: Tensor, known: Tensor) -> Tensor:
        """Run the transformer, and sum its results.

        Parameters
        ----------
        tokens : torch.Tensor of shape (n_samples, length)
            Ids of the tokens in their order.
        weights : torch.Tensor of shape (n_samples, length)
            Weight of each token in the sum.
        known : torch.Tensor of bool of shape (n_samples, length)
            Which tokens are no padding.

        Returns
        -------
        torch.Tensor of shape (n_samples, width)
            The features.
        """
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self._read(tokens, weights, known)
        found: Tensor | None = None
        for rows in _of_similar_length(known):
            part = self._read(tokens[rows], weights[rows], known[rows])
            if found is None:
                found = part.new_empty(len(tokens), part.shape[1])
            found[rows] = part
        return self._read(tokens, weights, known) if found is None else found

    def _read(self, tokens: Tensor, weights: Tensor, known: Tensor) -> Tensor:
        """Compute the features of some texts, up to the end of the longest one."""
        length = known.shape[1]
        if known.device.type == "cpu":  # a GPU would have to wait for the number
            length = int(known.any(dim=0).nonzero().max()) + 1 if bool(known.any()) else 1
        tokens, weights, padding = tokens[:, :length], weights[:, :length], ~known[:, :length]
        x = TABLE_RATE * nn.functional.embedding(tokens, self.table)
        for block in self.blocks:
            x = block(x, self.positions[:length], padding)
        return torch.bmm(weights.unsqueeze(1).to(x.dtype), x).squeeze(1)


def _waves(max_tokens: int, width: int) -> Tensor:
    """Sines and cosines of positions, with wavelengths from 6 to 60,000, `(max_tokens, width)`."""
    rates = 1e-4 ** (torch.arange(0, width, 2) / width)
    angles = torch.arange(max_tokens).unsqueeze(1) * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :width].contiguous()


def _of_similar_length(known: Tensor) -> Iterator[Any]:
    """Part texts so that each part has few positions, padding included."""
    longest = known.shape[1]
    cells = CELLS["cpu" if known.device.type == "cpu" else "cuda"]
    if len(known) * longest <= cells:
        yield slice(None)
        return
    positions = torch.arange(1, longest + 1, device=known.device)
    lengths = (known * positions).amax(dim=1)
    order = lengths.argsort(stable=True)
    start = 0
    for end, length in enumerate(lengths[order].clamp(min=1).tolist()):
        if end > start and (end + 1 - start) * length > cells:
            yield order[start:end]
            start = end
    yield order[start:]
