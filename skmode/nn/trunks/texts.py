"""The trunk of texts: a bag of tokens, weighed by TF-IDF, times a table of vectors."""

import torch
from torch import Tensor, nn

from skmode.nn.dropout import Dropout

# How much faster than a weight a token's vector learns. The vectors are stored divided by it: the
# steps of Adam do not depend on the size of the gradient, so the factor sets the rate.
TABLE_RATE = 3.0
# A text without known tokens has the norm zero.
SMALLEST_NORM = 1e-6


class TextTrunk(nn.Module):
    """Turn the tokens of texts into features: the weighted sum of the tokens' vectors.

    A token that occurs `c` times weighs ``(1 + log(c)) * idf``; the weights of a text are divided
    by their Euclidean norm. The vectors learn 3 times as fast as other weights under Adam.

    Parameters
    ----------
    idf : torch.Tensor of shape (n_tokens,)
        Inverse document frequency of each token at the start; it is trained further.
    vectors : torch.Tensor of shape (n_tokens, width)
        Vector of each token at the start. The truncated singular value decomposition of the
        training texts' TF-IDF makes a good one.
    dropout : float, default=0.0
        Probability that a token is left out of a text in training.
    frozen : bool, default=False
        Whether `idf` and `vectors` stay as they are.

    Notes
    -----
    Shape:

    - Input: ids of each text's distinct tokens, int64 or int32 `(n_samples, length)`, and how often
      each occurs, floats of the same shape; a count of 0 is padding
    - Output: `(n_samples, width)`

    Examples
    --------
    >>> import torch
    >>> from skmode.nn import TextTrunk
    >>> trunk = TextTrunk(torch.ones(3), torch.eye(3))
    >>> trunk(torch.tensor([[2, 0, 0]]), torch.tensor([[5.0, 0.0, 0.0]]))
    tensor([[0., 0., 1.]], grad_fn=...)
    """

    def __init__(
        self, idf: Tensor, vectors: Tensor, dropout: float = 0.0, *, frozen: bool = False
    ) -> None:
        super().__init__()
        self.idf = nn.Parameter(idf.clone(), requires_grad=not frozen)
        self.table = nn.Parameter(vectors / TABLE_RATE, requires_grad=not frozen)
        self.dropout = Dropout(dropout)
        self.out_features = vectors.shape[1]

    @property
    def vectors(self) -> Tensor:
        """Vector of each token, of shape `(n_tokens, width)`."""
        return TABLE_RATE * self.table

    def forward(self, tokens: Tensor, counts: Tensor) -> Tensor:
        """Compute the features; see the class for shapes."""
        return self.features(tokens, self.token_weights(tokens, counts), counts > 0)

    def token_weights(self, tokens: Tensor, counts: Tensor) -> Tensor:
        """Weigh each token of each text; in training some are left out at random.

        Parameters
        ----------
        tokens : torch.Tensor of shape (n_samples, length)
            Ids of the tokens.
        counts : torch.Tensor of shape (n_samples, length)
            How often each occurs; 0 is padding.

        Returns
        -------
        torch.Tensor of shape (n_samples, length)
            Weights, each row of norm one; 0 for padding.
        """
        times = 1 + counts.clamp(min=1).log()
        weights = torch.where(counts > 0, times * self.idf[tokens], 0.0)
        weights = self.dropout(weights)
        unit: Tensor = weights / weights.norm(dim=1, keepdim=True).clamp(min=SMALLEST_NORM)
        return unit

    def features(self, tokens: Tensor, weights: Tensor, known: Tensor) -> Tensor:
        """Sum the vectors of tokens.

        Parameters
        ----------
        tokens : torch.Tensor of shape (n_samples, length)
            Ids of the tokens.
        weights : torch.Tensor of shape (n_samples, length)
            Weight of each token.
        known : torch.Tensor of bool of shape (n_samples, length)
            Which tokens are no padding.

        Returns
        -------
        torch.Tensor of shape (n_samples, width)
            The features.
        """
        if tokens.device.type != "cpu":
            # With the padding, which weighs nothing: to leave it out, the CPU would have to wait
            # for a GPU to count what is left.
            starts = torch.arange(0, tokens.numel(), tokens.shape[1], device=tokens.device)
            starts = starts.to(tokens.dtype)
            return TABLE_RATE * self._sum(tokens.flatten(), starts, weights.flatten())
        ends = known.sum(dim=1).cumsum(0)
        starts = torch.cat([ends.new_zeros(1), ends[:-1]]).to(tokens.dtype)
        return TABLE_RATE * self._sum(tokens[known], starts, weights[known])

    def _sum(self, tokens: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
        """Sum the vectors of the tokens of each text, the first of which is at its start."""
        summed: Tensor = nn.functional.embedding_bag(
            tokens, self.table, starts, mode="sum", per_sample_weights=weights
        )
        return summed
