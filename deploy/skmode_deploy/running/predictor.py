"""Open a bundle and predict."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skmode_deploy import bundle
from skmode_deploy.bundle import MAX_BYTES, Manifest
from skmode_deploy.errors import GraphInterfaceError
from skmode_deploy.running.inputs import InputReader
from skmode_deploy.running.sessions import Providers, SessionFactory, check_at_least_one
from skmode_deploy.running.strategies import open_strategy


class Prediction(NamedTuple):
    """All that a model says about some rows.

    Attributes
    ----------
    value : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        Class labels, or predicted values.
    probabilities : ndarray of float32 of shape (n_samples, n_classes), or None
        Probabilities of the classes. None for regression.
    expert : ndarray of int64 of shape (n_samples,)
        Top expert of each row.
    gate_probability : ndarray of float32 of shape (n_samples,)
        The gate's probability of that expert.
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
        Where to compute. "auto" is CUDA where onnxruntime has it and it works, else the CPU, and
        the log (logger ``skmode_deploy``) says so once. Else one or more providers of onnxruntime,
        by name or with their options, such as ``("CUDAExecutionProvider",)`` or
        ``(("TensorrtExecutionProvider", {"device_id": 0}), "CUDAExecutionProvider")``: then
        it is an error where one of them does not work.
    strategy : {"graph", "split"}, default="graph"
        "graph" runs ``model.onnx``. "split" runs ``gate.onnx``, and loads the file of an expert
        when a row first needs it, for models of which not all fits into memory.
    max_loaded_experts : int or None, default=None
        With "split", how many experts are in memory at most; beyond, the one that was used least
        recently leaves. None is no limit.
    threads : int, default=1
        Threads that compute one operation. With "split", the gate and each loaded expert have as
        many of their own.
    max_rows : int or None, default=None
        How many rows one call may have. None is no limit.
    max_bytes : int, default=8 GiB
        Largest sum of the files' sizes.
    require_signature : path or None, default=None
        PEM file of the public key of whoever must have signed the bundle. None asks for no
        signature. It needs the package model-signing.

    Returns
    -------
    Predictor
        Ready to predict.

    Raises
    ------
    BundleError
        If the bundle is incomplete, damaged, unsafe, of an unknown format or not signed. Each
        rule has its own subclass in `skmode_deploy.errors`.
    ValueError
        If another parameter is not as described, if a provider is not available, or if the bundle
        mixes experts and `strategy` is "split".

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
    ...     answer = predictor.predict_full(X[:3])
    >>> answer.value.tolist()
    [0, 0, 0]
    >>> answer.probabilities.shape
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
    """Predict with an exported model; each row is computed by its top expert.

    Parameters
    ----------
    path : path
        Folder of a bundle.
    providers : str or sequence of str or of (str, mapping), default="auto"
        Where to compute: "auto", or providers of onnxruntime. See :func:`load`.
    strategy : {"graph", "split"}, default="graph"
        Whether to run ``model.onnx``, or gate and experts apart. See :func:`load`.
    max_loaded_experts : int or None, default=None
        With "split", how many experts are in memory at most. None is no limit.
    threads : int, default=1
        Threads that compute one operation.
    max_rows : int or None, default=None
        How many rows one call may have. None is no limit.
    max_bytes : int, default=8 GiB
        Largest sum of the files' sizes.
    require_signature : path or None, default=None
        PEM file of the public key of whoever must have signed the bundle.

    Attributes
    ----------
    path : str
        Folder of the bundle, as an absolute path.
    manifest : Manifest
        What the bundle says about the model.

    Raises
    ------
    BundleError
        If the bundle is incomplete, damaged, unsafe, of an unknown format or not signed.
    ValueError
        If another parameter is not as described, if a provider is not available, or if the bundle
        mixes experts and `strategy` is "split".

    Notes
    -----
    Rows come as the model saw them in training. A table may be a pandas, polars or pyarrow table
    or a mapping from column names to one-dimensional sequences; columns go by name, in any
    order. In a category column, None, NaN and the empty string are missing, and a category that
    training did not see is allowed: it has the code that stands for all such. In a number column
    None and NaN are missing, and infinite values and text are refused, also text that looks like
    a number. A column of the type int64 holds integers, none of them missing.

    The whole bundle is checked before any of it is used. With "split" an expert is read, and
    checked again, when it is first needed: its file must still be there. An expert that leaves
    memory while another thread computes with it stays until that is done.

    Threads may share a predictor. After `os.fork` the child opens the model anew when it first
    predicts, from memory. It should end by `os._exit`, as multiprocessing does: some releases of
    onnxruntime (1.31 among them) wait for ever in the `sys.exit` of a forked child, whether or
    not it predicted.

    To pickle a predictor is to pickle its path and parameters: it is opened again where it is
    unpickled, as in a spawned process.
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
        self.manifest: Manifest = _verify(folder, max_bytes, require_signature)
        manifest = self.manifest
        # Of these bytes and no others: what was hashed is what runs.
        self._strategy = open_strategy(
            strategy,
            manifest,
            lambda name: bundle.read_file(folder, manifest, name),
            sessions,
            max_loaded_experts,
        )
        self._inputs = InputReader(manifest, max_rows)
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
        X : ndarray of shape (n_samples, n_features), table, or mapping of columns
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Labels of the type they had in training, or float32 values.

        Raises
        ------
        ValueError
            If the rows are not as the model needs them; the message names the column.
        """
        output = "variable" if self._classes is None else "label"
        return self._value(self._run([output], X)[0])

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """Predict the probability of each class.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features), table, or mapping of columns
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
            If the rows are not as the model needs them; the message names the column.
        """
        if self._classes is None:
            raise AttributeError(
                "Only a classifier has predict_proba, and this bundle holds a regressor: "
                "use predict."
            )
        return self._run(["probabilities"], X)[0]

    def route(self, X: Any) -> NDArray[np.int64]:
        """Say which expert the gate sends each row to.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features), table, or mapping of columns
            Rows.

        Returns
        -------
        ndarray of int64 of shape (n_samples,)
            Top expert of each row.

        Raises
        ------
        ValueError
            If the rows are not as the model needs them; the message names the column.
        """
        return self._run(["expert"], X)[0]

    def predict_full(self, X: Any) -> Prediction:
        """Predict, and say everything about each row, in one run.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features), table, or mapping of columns
            Rows.

        Returns
        -------
        Prediction
            Labels or values, probabilities, top experts, and the gate's probability of these.

        Raises
        ------
        ValueError
            If the rows are not as the model needs them; the message names the column.
        """
        if self._classes is None:
            outputs = ["variable", "expert", "gate_probability"]
            value, expert, certainty = self._run(outputs, X)
            return Prediction(self._value(value), None, expert, certainty)
        outputs = ["label", "probabilities", "expert", "gate_probability"]
        label, probabilities, expert, certainty = self._run(outputs, X)
        return Prediction(self._value(label), probabilities, expert, certainty)

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Compute outputs of ``model.onnx`` from its inputs, like `InferenceSession.run`.

        `predict` and the other methods take rows as people have them. This one takes what
        :func:`skmode_deploy.samples.graph_inputs` makes of such rows, and checks nothing:
        neither the inputs nor `max_rows`.

        Parameters
        ----------
        outputs : sequence of str
            Names of the outputs: ``label`` and ``probabilities`` of a classifier, or ``variable``
            of a regressor; ``expert`` and ``gate_probability``.
        inputs : mapping from str to ndarray of shape (n_samples, 1) or (n_samples, n_features)
            Inputs by name.

        Returns
        -------
        list of ndarray
            The outputs in the order of `outputs`. Each has the shape (n_samples,), or
            (n_samples, n_outputs) for ``probabilities`` and ``variable``.
        """
        return self._strategy.run(outputs, inputs)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.path, self._parameters)

    def _run(self, outputs: list[str], X: Any) -> list[NDArray[Any]]:
        feeds = self._inputs(X)
        try:
            answers = self.run(outputs, feeds)
        except UnicodeEncodeError:
            self._inputs.check_text(feeds)
            raise
        for name, answer in zip(outputs, answers, strict=True):
            if answer.shape[1:] != self._shapes[name]:
                # onnxruntime only warns where a graph computes another shape than it states.
                raise GraphInterfaceError(
                    f"Output {name!r} must have {('n', *self._shapes[name])} as its shape, got "
                    f"{answer.shape}: export the model again."
                )
        return answers

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
            "whoever signed the bundle, or leave it out to ask for no signature."
        )


def _verify(
    folder: str, max_bytes: int, require_signature: str | os.PathLike[str] | None
) -> Manifest:
    """Check a whole bundle; what was signed is what is read."""
    if require_signature is None:
        return bundle.verify(folder, max_bytes=max_bytes)
    from skmode_deploy import signing

    signed = signing.verify_signature(folder, require_signature, max_bytes=max_bytes)
    return bundle.verify(folder, max_bytes=max_bytes, sha256=signed)
