"""Sample texts and what the model predicts for them, for the file ``samples.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from skmode.language._export.parity import TorchContext, open_session
from skmode.language._export.source import Source
from skmode_deploy.language.experts import Context, Expert
from skmode_deploy.language.samples import TextSamples
from skmode_deploy.language.scoring import score_tokens

# Of several languages and scripts; none is of any training set.
TEXTS = (
    "The lamp in the hall was on when she came home.",
    "Der Zug nach Norden hat heute zwölf Minuten Verspätung.",
    "Le petit café au coin de la rue ouvre à sept heures.",
    "def area(width, height):\n    return width * height\n",
    "La lluvia empezó justo después del almuerzo.",
    "東京の電車は時間どおりに来ます。",
    "x",
    "A line of words that goes on, and on, and on, " * 8,
)
TOLERANCE = 1e-3
TOLERANCE_8_BITS = 2e-2  # rounding is coarser, and differs between processors


def make_samples(
    source: Source, quantized: Mapping[str, bytes], *, any_8_bits: bool
) -> TextSamples:
    """Predict the sample texts with the models, and with the graphs of those with 8 bits."""
    texts = list(TEXTS)
    tokens = [source.text_tokenizer.encode(text) for text in texts]
    n_bytes = np.array([len(text.encode()) for text in texts])
    bits_per_byte = {}
    for name, model in source.models().items():
        start = _torch_starter(model)
        if name in quantized:
            session = open_session(quantized[name], name)
            start = _starter([Expert(session, name, source.n_tokens, source.max_length)])
        bits = score_tokens(start, tokens, source.max_length, source.end_token)
        bits_per_byte[name] = (bits / n_bytes).tolist()
    probabilities = np.asarray(source.router.predict_proba(texts), np.float32)
    return TextSamples(
        texts,
        tokens,
        [[float(str(p)) for p in row] for row in probabilities],
        bits_per_byte,
        TOLERANCE_8_BITS if any_8_bits else TOLERANCE,
    )


def _starter(experts: Sequence[Expert]) -> Any:
    return lambda n_rows: Context(experts, n_rows)


def _torch_starter(model: Any) -> Any:
    return lambda n_rows: TorchContext([model], n_rows)
