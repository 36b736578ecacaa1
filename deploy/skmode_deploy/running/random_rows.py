"""Draw random rows, images and texts from what a manifest says, not from training data."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmode_deploy.bundle import Column, Image, Manifest

MISSING_SHARE = 0.15  # of the values of a column that had missing ones in training
UNSEEN_EVERY = 8  # rows
TILES = 4  # of a made-up image, in each direction
MAX_WORDS = 60  # of a made-up text
SYLLABLES = [
    *("the", "of", "and", "to", "in", "re", "con", "ing", "er", "al", "ti", "pro", "men", "st"),
    *("ly", "é", "ö", "日", "🙂", "1", "20", "'s", ",", ".", "-"),
]


def draw_rows(manifest: Manifest, n_rows: int, seed: int = 0) -> Any:
    """Draw random rows: numbers uniform over their range, categories with equal probability.

    An image is a pattern of coloured tiles, a text has words of common syllables.

    Parameters
    ----------
    manifest : Manifest
        Manifest of the bundle.
    n_rows : int
        Number of rows.
    seed : int, default=0
        Seed of the random numbers.

    Returns
    -------
    dict of ndarray, or ndarray of shape (n_rows, n_columns), (n_rows, ...) or (n_rows,)
        Rows, images or texts, as :meth:`skmode_deploy.Predictor.predict` takes them.
    """
    if manifest.image is not None:
        return _draw_images(manifest.image, n_rows, np.random.default_rng(seed))
    values = draw_columns(manifest, n_rows, seed)
    if manifest.input == "array":
        return np.column_stack(values)
    if manifest.input == "text":
        return values[0]
    return dict(zip((column.name for column in manifest.columns), values, strict=True))


def draw_columns(
    manifest: Manifest, n_rows: int, seed: int = 0, *, missing: bool = False, unseen: bool = False
) -> list[NDArray[Any]]:
    """Draw random rows, column by column.

    Parameters
    ----------
    manifest : Manifest
        Manifest of the bundle.
    n_rows : int
        Number of rows.
    seed : int, default=0
        Seed of the random numbers.
    missing : bool, default=False
        Whether some values are missing, in columns that had missing values in training and do not
        refuse them.
    unseen : bool, default=False
        Whether every eighth row, starting with the first, has a category that was not in training,
        in columns that do not refuse them.

    Returns
    -------
    list of ndarray of shape (n_rows,)
        Columns in the order of training. A missing number is NaN, a missing string ``""``, a
        missing image None.
    """
    rng = np.random.default_rng(seed)
    values = [_draw_column(column, n_rows, rng) for column in manifest.columns]
    if missing:
        for column, cells in zip(manifest.columns, values, strict=True):
            may_miss = "missing" not in (column.refuses or ())
            if column.has_missing and may_miss and column.dtype != "int64":
                cells[rng.random(n_rows) < MISSING_SHARE] = _missing(column)
    if unseen:
        _set_unseen(manifest, values)
    return values


def _draw_images(image: Image, n_images: int, rng: np.random.Generator) -> NDArray[Any]:
    """Draw images in the layout and type of the graph."""
    tiles = rng.integers(256, size=(n_images, TILES, TILES, image.channels), dtype=np.uint8)
    rows, columns = (np.arange(size) * TILES // size for size in (image.height, image.width))
    pixels: NDArray[Any] = tiles[:, rows][:, :, columns]
    if image.layout != "hwc":
        pixels = pixels[..., 0] if image.layout == "hw" else np.moveaxis(pixels, -1, 1)
    if image.dtype == "float32":
        pixels = np.divide(pixels, np.float32(255), dtype=np.float32)
    return np.ascontiguousarray(pixels)


def _missing(column: Column) -> Any:
    if column.kind == "image":
        return None
    return "" if column.dtype == "string" else np.nan


def _draw_texts(column: Column, n_texts: int, rng: np.random.Generator) -> NDArray[Any]:
    """Draw texts of any number of words, each of up to three syllables."""
    assert column.text is not None
    texts = np.empty(n_texts, object)
    for i in range(n_texts):
        sizes = rng.integers(1, 4, size=rng.integers(1, MAX_WORDS + 1)).tolist()
        syllables = iter(rng.choice(SYLLABLES, sum(sizes)).tolist())
        words = " ".join("".join(next(syllables) for _ in range(size)) for size in sizes)
        texts[i] = words.encode()[: column.text.max_bytes].decode(errors="ignore") or "a"
    return texts


def _draw_column(column: Column, n_rows: int, rng: np.random.Generator) -> NDArray[Any]:
    if column.image is not None:
        cells = np.empty(n_rows, object)
        cells[:] = list(_draw_images(column.image, n_rows, rng))
        return cells
    if column.kind == "text":
        return _draw_texts(column, n_rows, rng)
    if column.kind == "category":
        known = list(column.categories or ()) or ["" if column.dtype == "string" else 0]
        dtype = object if column.dtype == "string" else np.dtype(column.dtype)
        return np.array(known, dtype=dtype)[rng.integers(len(known), size=n_rows)]
    low = 0.0 if column.minimum is None else column.minimum
    high = 1.0 if column.maximum is None else column.maximum
    share = rng.random(n_rows)
    # Not low + share * (high - low): the difference may be infinite.
    return (low * (1 - share) + high * share).astype(column.dtype)


def _set_unseen(manifest: Manifest, values: list[NDArray[Any]]) -> None:
    """Put unknown categories into every eighth row, in one category column after the other."""
    found = [
        (cells, category)
        for column, cells in zip(manifest.columns, values, strict=True)
        if column.kind == "category"
        and "unseen" not in (column.refuses or ())
        and (category := unseen_category(column)) is not None
    ]
    for i, row in enumerate(range(0, len(values[0]), UNSEEN_EVERY) if found else ()):
        cells, category = found[i % len(found)]
        cells[row] = category


def unseen_category(column: Column) -> Any:
    """Return an unknown category; None if the type cannot represent one."""
    known = column.categories or ()
    if column.dtype == "string":
        text = "unseen"
        while text in known:
            text += "_"
        return text
    beyond = 2 * max(map(abs, known), default=0) + 1
    largest = np.iinfo(np.int64).max if column.dtype == "int64" else np.finfo(column.dtype).max
    return beyond if beyond <= largest else None
