"""Texts become tokens, and tokens become counts."""

from skmode_deploy.running.inputs.texts.counting import count_tokens, order_tokens
from skmode_deploy.running.inputs.texts.encoding import TokenReader
from skmode_deploy.running.inputs.texts.reading import TextReader
from skmode_deploy.running.inputs.texts.tokenizer import Tokenizer

__all__ = ["TextReader", "TokenReader", "Tokenizer", "count_tokens", "order_tokens"]
