"""Open a bundle and predict."""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skmode_deploy import bundle
from skmode_deploy.bundle import MAX_BYTES, Manifest
from skmode_deploy.errors import GraphInterfaceError, InferenceError, ManifestError
from skmode_deploy.running.inputs import compute_in_parts, open_reader
from skmode_deploy.running.inputs.texts import TokenReader
from skmode_deploy.running.sessions import Providers, SessionFactory, check_at_least_one
from skmode_deploy.running.strategies import open_strategy


class Prediction(NamedTuple):
    """Everything that a model predicts for some rows.

    Attributes
    ----------
    value : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        Class labels, or predicted values.
    probabilities : ndarray of float32 of shape (n_samples, n_classes), or None
        Probabilities of the classes. None for regression.
    expert : ndarray of int64 of shape (n_samples,)
        Top expert of each row.
    gate_probability : ndarray of float32 of shape (n_samples,)
        The gate's probability of the top expert.
    """

    value: NDArray[Any]
    probabilities: NDArray[np.float32] | None
    expert: NDArray[np.int64]
    gate_probability: NDArray[np.float32]


def load(
    path: str | os.PathLike[str],
    *,
    providers: Providers = "auto",
    strategy: Literal["graph", "split"] = "graph",
    max_loaded_experts: int | None = None,
    threads: int = 1,
    max_rows: int | None = None,
    max_bytes: int = MAX_BYTES,
    require_signature: str | os.PathLike[str] | None = None,
) -> "Predictor":
    """Check a bundle that `skmode.onnx.export` wrote, and open it.

    Parameters
    ----------
    path : path
        Folder of the bundle.
    providers : str or sequence of str or of (str, mapping), default="auto"
        Execution providers of onnxruntime. "auto" uses CUDA if it is installed and works, else the
        CPU, and the logger ``skmode_deploy`` says so once. Or pass one or more providers, by name
        or with options, such as ``("CUDAExecutionProvider",)`` or
        ``(("TensorrtExecutionProvider", {"device_id": 0}), "CUDAExecutionProvider")``; if one of
        them does not work, an error is raised.
    strategy : {"graph", "split"}, default="graph"
        "graph" runs ``model.onnx``. "split" runs ``gate.onnx`` and loads an expert's file when a
        row first needs it, for models that do not fit in memory.
    max_loaded_experts : int or None, default=None
        Largest number of experts in memory with "split". Beyond it, the least recently used expert
        is removed. None is no limit.
    threads : int, default=1
        Number of threads for one operation. With "split", the gate and each loaded expert have
        this many threads each.
    max_rows : int or None, default=None
        Largest number of rows in a call. None is no limit.
    max_bytes : int, default=8 GiB
        Limit of the sum of all file sizes.
    require_signature : path or None, default=None
        PEM file of a public key. The bundle must be signed with its private key. None requires no
        signature. Signatures need the package model-signing.

    Returns
    -------
    Predictor
        A predictor for the bundle.

    Raises
    ------
    BundleError
        If the bundle is incomplete, damaged, unsafe, of an unknown format or not signed. Each
        rule has its own subclass in `skmode_deploy.errors`.
    ValueError
        If another parameter is invalid, if a provider is not available, or if `strategy` is
        "split" and the bundle mixes its experts.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_iris
    >>> import skmode_deploy
    >>> from skmode import MoDEClassifier
    >>> from skmode.onnx import export
    >>> X, y = load_iris(return_X_y=True)
    >>> estimator = MoDEClassifier(n_experts=4, max_epochs=20, random_state=0).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export(estimator, folder)
    ...     predictor = skmode_deploy.load(folder, strategy="split", max_loaded_experts=2)
    ...     prediction = predictor.predict_full(X[:3])
    >>> prediction.value.tolist()
    [0, 0, 0]
    >>> prediction.probabilities.shape
    (3, 3)
    """
    return Predictor(
        path,
        providers=providers,
        strategy=strategy,
        max_loaded_experts=max_loaded_experts,
        threads=threads,
        max_rows=max_rows,
        max_bytes=max_bytes,
        require_signature=require_signature,
    )


class Predictor:
    """Predict with an exported model.

    Parameters
    ----------
    path : path
        Folder of a bundle.
    providers : str or sequence of str or of (str, mapping), default="auto"
        Execution providers of onnxruntime, or "auto". See :func:`load`.
    strategy : {"graph", "split"}, default="graph"
        Whether to run ``model.onnx``, or the gate and single experts. See :func:`load`.
    max_loaded_experts : int or None, default=None
        Largest number of experts in memory with "split". None is no limit.
    threads : int, default=1
        Number of threads for one operation.
    max_rows : int or None, default=None
        Largest number of rows in a call. None is no limit.
    max_bytes : int, default=8 GiB
        Limit of the sum of all file sizes.
    require_signature : path or None, default=None
        PEM file of the public key that must verify the bundle's signature.

    Attributes
    ----------
    path : str
        Folder of the bundle, as an absolute path.
    manifest : Manifest
        Description of the model.

    Raises
    ------
    BundleError
        If the bundle is incomplete, damaged, unsafe, of an unknown format or not signed.
    ValueError
        If another parameter is invalid, if a provider is not available, or if `strategy` is
        "split" and the bundle mixes its experts.

    Notes
    -----
    Pass rows in the form of the training data. A table is a pandas, polars or pyarrow table, or a
    mapping from column names to one-dimensional sequences. Its columns are found by name, in any
    order. In a categorical column, None, NaN and the empty string are missing. A category that was
    not in training is allowed; the model treats all such categories alike. In a numeric column,
    None and NaN are missing. Infinite numbers are errors. An int64 column holds integers without
    missing values. A column may have another type than in training where the text of the values is
    the same one-to-one: ``"30"`` for 30; 101 for ``"101"`` if all known categories are written
    numbers; True for ``"True"``. Other values of another type are errors. What a column refuses
    beside that, such as unknown categories where the encoder of a Pipeline fails on them, is in the
    manifest: see `refuses`, `lowest` and `highest` of :class:`skmode_deploy.bundle.Column`.

    A model of images takes an array of the shape and layout of training, or a list or a column of
    such arrays, PIL images, contents of PNG or JPEG files, or paths. Arrays are of uint8 or, if
    training had floats, of floats from 0 to 1. All else needs Pillow (the extra `image`). Colours
    must be those of training: only a palette becomes RGB, and black and white becomes grey. Pixels
    are taken as stored, without the rotation that a camera may note beside them. A column of images
    in a table holds any of these; a missing one is read as the manifest says.

    The whole bundle is checked before any of it is used. With "split", an expert's file is read
    when it is first needed, and checked again, so it must still be there. An expert that is removed
    from memory while another thread uses it stays until that thread is done.

    Threads may share a predictor. After `os.fork`, the child opens the model again when it first
    predicts. The child should end with `os._exit`, as multiprocessing does: with some releases of
    onnxruntime, such as 1.31, `sys.exit` never returns in a forked child, even if it did not
    predict.

    A pickle of a predictor holds only its path and parameters; unpickling opens the bundle again.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        providers: Providers = "auto",
        strategy: Literal["graph", "split"] = "graph",
        max_loaded_experts: int | None = None,
        threads: int = 1,
        max_rows: int | None = None,
        max_bytes: int = MAX_BYTES,
        require_signature: str | os.PathLike[str] | None = None,
    ) -> None:
        if max_rows is not None:
            max_rows = check_at_least_one(max_rows, "max_rows")
        if not isinstance(path, str | os.PathLike):
            raise ValueError(f"path must be a path, got {path!r}: pass the folder of a bundle.")
        check_key(require_signature)
        sessions = SessionFactory(providers, threads)
        folder = os.path.abspath(path)
        self.path = folder
        self._parameters = {
            "providers": providers,
            "strategy": strategy,
            "max_loaded_experts": max_loaded_experts,
            "threads": threads,
            "max_rows": max_rows,
            "max_bytes": max_bytes,
            "require_signature": require_signature and os.path.abspath(require_signature),
        }
        self.manifest: Manifest = verify_bundle(folder, max_bytes, require_signature)
        manifest = self.manifest
        if manifest.language is not None:
            raise ManifestError(
                "A predictor needs a model of rows or images, got a language model in "
                f"{folder!r}: open it with skmode_deploy.language.load."
            )
        # Each file is read once, so that the bytes that were checked are the bytes that run.
        self._strategy = open_strategy(
            strategy,
            manifest,
            lambda name: bundle.read_file(folder, manifest, name),
            sessions,
            max_loaded_experts,
        )
        self._inputs = open_reader(
            manifest, max_rows, lambda name: bundle.read_file(folder, manifest, name)
        )
        outputs = bundle.graph_values(manifest, bundle.MODEL)[1]
        self._shapes = {value.name: tuple(value.shape[1:]) for value in outputs}
        classes = manifest.classes
        self._classes: NDArray[Any] | None = None
        if classes is not None:
            self._classes = np.array(classes.values, dtype=np.dtype(classes.dtype))

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict class labels or values.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features), table, mapping of columns, images or texts
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Labels of the type that they had in training, or float32 values.

        Raises
        ------
        ValueError
            If the rows are not as the model needs them; the message names the column, image or
            text.
        InferenceError
            If onnxruntime fails on rows that the manifest allows.
        """
        output = "variable" if self._classes is None else "label"
        return self._value(self._run([output], X)[0])

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """Predict the probability of each class.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features), table, mapping of columns, images or texts
            Rows.

        Returns
        -------
        ndarray of float32 of shape (n_samples, n_classes)
            Probabilities, in the order of the manifest's classes.

        Raises
        ------
        AttributeError
            If the model is a regressor.
        ValueError
            If the rows are not as the model needs them; the message names the column, image or
            text.
        InferenceError
            If onnxruntime fails on rows that the manifest allows.
        """
        if self._classes is None:
            raise AttributeError(
                "Only a classifier has predict_proba, but this bundle holds a regressor: "
                "use predict."
            )
        return self._run(["probabilities"], X)[0]

    def route(self, X: Any) -> NDArray[np.int64]:
        """Return the top expert of each row.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features), table, mapping of columns, images or texts
            Rows.

        Returns
        -------
        ndarray of int64 of shape (n_samples,)
            Position of the expert with the largest gate probability.

        Raises
        ------
        ValueError
            If the rows are not as the model needs them; the message names the column, image or
            text.
        InferenceError
            If onnxruntime fails on rows that the manifest allows.
        """
        return self._run(["expert"], X)[0]

    def predict_full(self, X: Any) -> Prediction:
        """Predict labels or values together with probabilities and routing, in one run.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features), table, mapping of columns, images or texts
            Rows.

        Returns
        -------
        Prediction
            Labels or values, probabilities, top experts and their gate probabilities.

        Raises
        ------
        ValueError
            If the rows are not as the model needs them; the message names the column, image or
            text.
        InferenceError
            If onnxruntime fails on rows that the manifest allows.
        """
        if self._classes is None:
            outputs = ["variable", "expert", "gate_probability"]
            value, expert, certainty = self._run(outputs, X)
            return Prediction(self._value(value), None, expert, certainty)
        outputs = ["label", "probabilities", "expert", "gate_probability"]
        label, probabilities, expert, certainty = self._run(outputs, X)
        return Prediction(self._value(label), probabilities, expert, certainty)

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Compute outputs of ``model.onnx``, like onnxruntime's `InferenceSession.run`.

        Unlike the other methods, it takes graph inputs, as
        :func:`skmode_deploy.samples.graph_inputs` returns them, and does not check them or
        `max_rows`.

        Parameters
        ----------
        outputs : sequence of str
            Names of the outputs: ``label`` and ``probabilities`` of a classifier, or ``variable``
            of a regressor; ``expert`` and ``gate_probability``.
        inputs : mapping from str to ndarray of shape (n_samples, 1) or (n_samples, n_features)
            Inputs by name; images are of shape (n_samples, ...).

        Returns
        -------
        list of ndarray
            The outputs in the order of `outputs`. Each has the shape (n_samples,), or
            (n_samples, n_outputs) for ``probabilities`` and ``variable``.

        Raises
        ------
        InferenceError
            If onnxruntime fails, for example because an input is missing.
        """
        return self._strategy.run(outputs, inputs)

    def encode_texts(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Turn texts into the tokens and counts that :meth:`run` takes.

        Parameters
        ----------
        inputs : mapping from str to ndarray
            Inputs as :func:`skmode_deploy.samples.sample_inputs` returns them, with texts as
            strings.

        Returns
        -------
        dict of ndarray
            Inputs of ``model.onnx``. They are the same as `inputs` if no column holds texts.

        Raises
        ------
        ValueError
            If a text is not as the model needs it; the message names the text.
        """
        if isinstance(self._inputs, TokenReader):
            return self._inputs.encode(inputs)
        return dict(inputs)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.path, self._parameters)

    def _run(self, outputs: list[str], X: Any) -> list[NDArray[Any]]:
        return compute_in_parts(self._inputs, X, partial(self._compute, outputs))

    def _compute(self, outputs: list[str], feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        try:
            computed = self.run(outputs, feeds)
        except UnicodeEncodeError:
            self._inputs.check_text(feeds)
            raise
        except InferenceError:
            # A bundle of an earlier release does not say which values its graph fails on.
            self._inputs.check_known(feeds)
            raise
        for name, output in zip(outputs, computed, strict=True):
            if output.shape[1:] != self._shapes[name]:
                # onnxruntime only warns if a graph computes another shape than it declares.
                raise GraphInterfaceError(
                    f"Output {name!r} must have shape {('n', *self._shapes[name])}, got "
                    f"{output.shape}: export the model again."
                )
        return computed

    def _value(self, output: NDArray[Any]) -> NDArray[Any]:
        """Return labels in their type of training, or values; a single output loses its axis."""
        if self._classes is None:
            return output[:, 0] if self.manifest.n_outputs == 1 else output
        assert self.manifest.classes is not None
        if self.manifest.classes.label == "index":
            if output.size and not 0 <= output.min() <= output.max() < len(self._classes):
                raise GraphInterfaceError(
                    f"Output 'label' must lie between 0 and {len(self._classes) - 1}, got "
                    f"{output.min()} to {output.max()}: export the model again."
                )
            labels: NDArray[Any] = self._classes[output]
            return labels
        return output.astype(self._classes.dtype, copy=False)


def _reopen(path: str, parameters: dict[str, Any]) -> Predictor:
    return Predictor(path, **parameters)


def check_key(path: str | os.PathLike[str] | None) -> None:
    """Check the path of a public key."""
    if path is None:
        return
    if not isinstance(path, str | os.PathLike) or not os.fspath(path) or os.path.isdir(path):
        raise ValueError(
            f"The public key must be the path of a PEM file, got {path!r}: pass the file of "
            "whoever signed the bundle, or leave it out to require no signature."
        )


def verify_bundle(
    folder: str, max_bytes: int, require_signature: str | os.PathLike[str] | None
) -> Manifest:
    """Check a whole bundle, and if required that it is the one that was signed."""
    if require_signature is None:
        return bundle.verify(folder, max_bytes=max_bytes)
    from skmode_deploy import signing

    signed = signing.verify_signature(folder, require_signature, max_bytes=max_bytes)
    return bundle.verify(folder, max_bytes=max_bytes, sha256=signed)
