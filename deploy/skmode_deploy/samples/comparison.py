"""Compare what a predictor predicts for the sample rows with the predictions of the export."""

from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from skmode_deploy.bundle import SAMPLES
from skmode_deploy.bundle.messages import as_sentence, short_repr, shorten
from skmode_deploy.errors import BundleError, SampleMismatchError
from skmode_deploy.running.predictor import Predictor
from skmode_deploy.samples.document import Samples, read_samples


def check_samples(predictor: Predictor) -> None:
    """Check that a predictor predicts for its sample rows what the exported model predicted.

    Parameters
    ----------
    predictor : Predictor
        Predictor to check. Its `max_rows` does not apply here. If its bundle has no sample rows,
        nothing is checked.

    Raises
    ------
    SampleMismatchError
        If a label or an expert differs, if a number differs by more than the tolerance, or if
        onnxruntime fails. `skmode.onnx.export` sets the tolerance to 1e-4 for probabilities, and
        to 1e-4 of the target's standard deviation for values; with 8-bit weights, to 1e-2.
    BundleError
        If the sample rows cannot be read.

    See Also
    --------
    read_samples : With an example.
    """
    samples = read_samples(predictor.path, predictor.manifest)
    if samples is None:
        return
    names = list(samples.outputs)
    try:
        # Not by predict: all rows must be one call, and max_rows may be smaller.
        outputs = predictor.run(names, predictor.encode_texts(samples.inputs))
    except (BundleError, MemoryError):
        raise
    except Exception as error:  # onnxruntime has its own types of errors
        raise SampleMismatchError(
            f"The rows of {SAMPLES} must get the predictions of the export, got "
            f"{type(error).__name__}: {shorten(as_sentence(error))} Upgrade onnxruntime, or export "
            "the model again."
        ) from error
    for name, output in zip(names, outputs, strict=True):
        _compare(name, output, samples)


def _compare(name: str, output: NDArray[Any], samples: Samples) -> None:
    """Compare one output with the samples."""
    expected = samples.outputs[name]
    if output.shape != expected.shape:
        _fail(name, f"of shape {expected.shape}", f"shape {output.shape}")
    if name not in samples.tolerance:
        other = np.flatnonzero(output != expected)
        if len(other):
            i = other[0]
            _fail(
                f"{name} of row {i}",
                short_repr(expected[i : i + 1].tolist()[0]),
                f"{short_repr(output[i : i + 1].tolist()[0])}, and {len(other)} of {len(output)} "
                "rows differ",
            )
        return
    tolerance = np.asarray(samples.tolerance[name])
    errors = np.abs(output.astype(np.float64) - expected)
    bad = ~(errors <= tolerance)  # also where it is NaN
    if bad.any():
        i = int(np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1))[0])
        column = int(np.argmax(bad[i])) if bad.ndim == 2 else ()
        largest = float(np.broadcast_to(tolerance, errors.shape)[i][column])
        _fail(
            f"{name} of row {i}",
            f"{float(expected[i][column]):.6g} within {largest:.3g}",
            f"{float(output[i][column]):.6g}",
        )


def _fail(what: str, rule: str, found: str) -> NoReturn:
    raise SampleMismatchError(
        f"The rows of {SAMPLES} must get the predictions of the export; {what} must be {rule}, got "
        f"{found}: export the model again, or serve it with the onnxruntime release that the "
        'manifest states, on the CPU (providers=("CPUExecutionProvider",)).'
    )
