"""The docstrings of the estimators of texts: what differs from those of tables."""

from collections.abc import Callable
from typing import TypeVar

from skmode._common.docstrings import RowTexts, retell_methods
from skmode._estimators.parameters import documentation

PARAMETERS = documentation.PARAMETERS | {
    "tokenizer": (
        "str, path, tokenizers.Tokenizer or None",
        """
        A tokenizer of your own, a byte-level BPE: the path of a tokenizer.json, its content, or an
        object of the package `tokenizers`. `vocab_size` and `lowercase` do not apply to it. None
        trains one on the texts of `fit`, which needs that package (extra `text`).
        """,
    ),
    "vocab_size": (
        "int",
        "Tokens of the trained tokenizer, at most; at least 256, because each byte is a token.",
    ),
    "lowercase": ("bool", "Whether the trained tokenizer ignores the case."),
    "max_tokens": (
        "int",
        """
        Distinct tokens that are read of a text, at most; with ``text_encoder="transformer"``, all
        tokens. Of more, the first ones count.
        """,
    ),
    "text_encoder": (
        '{"bag", "transformer"}',
        """
        ``"bag"``: the order of the words is not read. ``"transformer"``: between a token's vector
        and the sum stands a small transformer that reads in both directions, whose feed-forward
        layers are :class:`skmode.nn.MoDELayer` with `n_experts` experts, two for each token, and
        the same `alpha`, `distillation` and `balance`. It is for long texts in which order counts,
        and for a GPU: it takes many times longer.
        """,
    ),
    "transformer_layers": ("int", "Layers of attention and experts of the transformer."),
    "transformer_heads": (
        "int",
        "Heads of its attention; `token_embedding_size` must be a multiple of them.",
    ),
    "token_embedding_size": (
        "int",
        """
        Width of a token's vector, and so of what gate and experts read. The vectors start as the
        truncated singular value decomposition of the training texts' TF-IDF, which has no more
        directions than there are texts.
        """,
    ),
    "token_dropout": (
        'float or "auto"',
        """
        Probability of leaving a token out of a text in training. ``"auto"``: 0 if one batch holds
        all texts (up to 128), otherwise 0.3.
        """,
    ),
    "tune_tokens": (
        'bool or "auto"',
        """
        Whether the vectors of the tokens, and their weights, are trained further. ``"auto"``: from
        1,000 texts on.
        """,
    ),
    "linear_share": (
        'float or "auto"',
        """
        Share of a linear model in each expert's prediction, from 0 to below 1; the rest is the
        expert's network. The linear model (:class:`sklearn.svm.LinearSVC`, or
        :class:`sklearn.linear_model.Ridge` for values) reads the weights of the tokens, is the same
        for all experts, and is fitted after the network, of which it becomes a part. Values are
        averaged, and logits of classes: a margin counts as a logit after a factor, about 6, that
        the validation texts choose. Layers beside a linear part are known as wide and deep (Cheng
        et al., arXiv 1606.07792).

        ``"auto"``: the validation texts choose among 0, 0.25, 0.5 and 0.75, and the linear model's
        `C` among 0.1, 0.3, 1 and 3. It is 0 without validation texts, with more than 128 outputs,
        and where a number above 0 is refused: with ``text_encoder="transformer"``, with
        `expert_module`, with an `activation` other than ``"silu"``, ``"relu"``, ``"gelu"`` and
        ``"identity"``, and with a `loss` other than the squared error. A number without validation
        texts takes the factor 6 and `C` 1, which can be far too sure where classes are hard to
        tell. A first `partial_fit` adds none. A warm start trains that of the first fit further,
        whatever the parameter is then; it saw the texts that are held out later.
        """,
    ),
    "weight_decay": (
        '"auto" or float',
        """
        Weight decay of the optimizer. ``"auto"`` trains once with 0.01 and once with 3 and keeps
        the model with the lower validation loss; without validation texts it takes 0.3. With
        ``text_encoder="transformer"`` it is 0.01. A warm start keeps the `weight_decay_` of the
        first fit.
        """,
    ),
    "batch_size": (
        '"auto" or int',
        """
        Texts per step. ``"auto"``: all texts if there are at most 128; otherwise a sixteenth of
        them, rounded to a power of two between 32 and 64.
        """,
    ),
    "max_epochs": (
        '"auto" or int',
        """
        Passes over the texts, at most. ``"auto"``: 600 over the square root of the number of texts,
        from 4 to 60. The refit counts: training stops while the epochs that the refit needs are
        left. Each call of `fit` with `warm_start` may make so many again, and so may each training
        of ``weight_decay="auto"`` and ``alpha="auto"``, and the teachers of ``teacher="ensemble"``.
        """,
    ),
    "teacher": (
        documentation.PARAMETERS["teacher"][0],
        """
        Who teaches the experts. An estimator, such as a pipeline with a TfidfVectorizer, is cloned
        and fitted on the folds of `teacher_cv`, so that each text is taught by models that did not
        see it. It sees the texts as you passed them, and none of the validation texts. A list is
        averaged. A classifier needs `predict_proba`. A model that is fitted and shall stay as it is
        goes into a :class:`sklearn.frozen.FrozenEstimator`; it must not have seen the texts.
        `partial_fit` does not use it. A fitted mixture's pickle holds neither the folds' models nor
        the model in a FrozenEstimator.

        The names teach in the refit alone. ``"mixture"``: the mixture as it was before.
        ``"ensemble"``: `n_teachers` networks of an expert's size, each with a trunk and validation
        texts of its own; their predictions are averaged, and that mean with those of the
        mixture. ``"auto"``: as ``"ensemble"``, but the validation texts choose how much the mixture
        counts, and nobody teaches if they prefer the mixture alone.
        Each expert learns to predict as the teacher does. None means no teacher, and so does a name
        in a fit without a refit.
        """,
    ),
}
ATTRIBUTES = {
    name: text
    for name, text in documentation.ATTRIBUTES.items()
    if name not in ("n_features_in_", "feature_names_in_")
} | {
    "n_features_in_": ("int", "1, if `X` had two dimensions."),
    "feature_names_in_": (
        "ndarray of shape (1,)",
        """
        Name of the column, if `X` was a table and it is a string. Tables with another column are
        then refused. A list, an array of one dimension and a Series have no such name, whatever the
        Series is called.
        """,
    ),
    "encoder_": ("object", "The tokens as training saw them, `n_tokens_` of them."),
    "linear_share_": ("float", "Share of the linear model in each prediction; 0 means none."),
    "tokenizer_json_": ("str", "The tokenizer, as the package `tokenizers` writes it."),
}
TEXTS = RowTexts(
    kind="list, array, Series or table with one column of str, of length n_samples",
    of_methods={
        ("fit", "X"): "Training texts. None, NaN and empty strings are missing.",
        ("fit", "X_val"): """
            Validation texts of your own. They replace those that `validation_fraction` holds out,
            and are never trained on, nor is there a refit without a teacher.
            """,
        ("fit", "X_unlabeled"): "Further texts without targets, which the `teacher` labels.",
        ("partial_fit", "X"): "Training texts. The first call learns the tokens.",
    },
    others="Texts. None, NaN and empty strings are missing.",
)

Estimator = TypeVar("Estimator", bound=type)


def of_texts(metric: str, predictions: str) -> Callable[[Estimator], Estimator]:
    """Fill the docstring of an estimator of texts, and tell its methods that rows are texts."""
    document = documentation.documented(metric, predictions, PARAMETERS, ATTRIBUTES)

    def of(estimator: Estimator) -> Estimator:
        retell_methods(estimator, TEXTS)
        return document(estimator)

    return of
