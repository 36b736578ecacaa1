"""The docstrings of the estimators of images: what differs from those of tables."""

from collections.abc import Callable
from typing import TypeVar

from skmode._common.docstrings import RowTexts, retell_methods
from skmode._estimators.parameters import documentation

PARAMETERS = documentation.PARAMETERS | {
    "hidden_layer_sizes": (
        "array-like of int",
        """
        Widths of each expert's layers behind its convolutions. The output of the last one is the
        representation that distillation compares.
        """,
    ),
    "activation": (
        '{"relu", "gelu", "silu", "tanh", "logistic", "identity"}',
        "Activation of trunk, experts and gate.",
    ),
    "channels": (
        '{"last", "first"}',
        """
        Where arrays of four dimensions have their channels: `(n, height, width, channels)` or `(n,
        channels, height, width)`. It is never guessed. Grey images need no such axis.
        """,
    ),
    "trunk_channels": (
        "array-like of int",
        """
        Channels of each convolution of the trunk, which gate and experts share. Each is normalised
        over the batch, and the maximum of 2 x 2 pixels halves height and width behind it.
        """,
    ),
    "expert_channels": (
        "array-like of int",
        """
        Channels of each convolution of an expert, which is normalised over the batch. All but the
        first one halve height and width.
        """,
    ),
    "trunk_module": (
        "torch.nn.Module, callable or None",
        """
        A trunk of your own, such as a pretrained network without its last layer, in the place of
        the convolutions of `trunk_channels`. It maps normalised images `(n, channels, height,
        width)` to feature maps of four dimensions or to features of two, and must treat each image
        independently in evaluation mode, which `fit` checks. A module is copied and trained on,
        except parameters that do not require gradients; if none does, it stays in evaluation mode,
        and so it does for a single image that it cannot take in training. Or a class or function
        that builds a module for the shape of an image, `(channels, height, width)`.
        """,
    ),
    "expert_module": (
        "callable or None",
        """
        Class or function that builds a custom expert, to which `expert_channels`,
        `hidden_layer_sizes`, `activation` and `dropout` do not apply. It is called once per expert
        with the shape of the trunk's feature maps, `(channels, height, width)`, and returns a new
        :class:`torch.nn.Module` that maps `(n_samples, channels, height, width)` to `(n_samples,
        width)`. If a `trunk_module` returns features of two dimensions, it is called with their
        number, and its input is `(n_samples, in_features)`. It must treat each row independently
        in evaluation mode, which `fit` checks, and all experts must have the same width. Use a
        class or function that can be imported, or the estimator cannot be pickled.
        """,
    ),
    "augment": (
        '{"auto", "shift", "flip"} or None',
        """
        Random change of each image in each training batch, never in prediction. ``"shift"`` moves
        it by up to 7 % of height and width. ``"flip"`` mirrors half of the images, left to right.
        ``"auto"``: ``"shift"`` with 129 to 20,000 images, otherwise none, as in `partial_fit`.
        """,
    ),
    "batch_size": (
        '"auto" or int',
        """
        Images per step. ``"auto"``: all images if there are at most 128; otherwise a sixteenth of
        them, rounded to a power of two between 32 and 128.
        """,
    ),
    "max_epochs": (
        '"auto" or int',
        """
        Passes over the images, at most. ``"auto"``: 1,400 over the square root of the number of
        images, from 5 to 60: 6 for 60,000 images, 23 for 4,000. The refit counts: training stops
        while the epochs that the refit needs are left. But a refit with a `teacher` may make so
        many again, and so may each call of `fit` with `warm_start`, each of the two trainings of
        ``alpha="auto"``, and the networks of ``teacher="ensemble"``.
        """,
    ),
    "refit_fraction": (
        documentation.PARAMETERS["refit_fraction"][0],
        """
        Length of the refit, from 0 (none) to 1. After early stopping, training continues from the
        best weights on all images of `X`, including the held-out ones. ``"auto"`` is 0.3 without a
        teacher: this fraction of the epochs up to the best one, but at least two if `max_epochs`
        leaves so many. The learning rate starts at that of the best epoch, but at least at a fifth
        of the peak, and falls to zero.

        Where a teacher takes part (a name, or an estimator that labels further images), ``"auto"``
        is 1, and it is a fraction of `max_epochs`, beside the epochs of the training before it. The
        rate starts at twice the peak (at the peak if an estimator predicted values), without
        dropout: the teacher keeps the experts from fitting noise. If that raises the validation
        loss by a tenth (after an estimator by 0.1 at least) it is undone, with a
        ConvergenceWarning.

        No refit in `partial_fit`, after the user interrupts, with `X_val` or ``max_epochs=1`` but
        no teacher. `X_val` is never trained on: images of your own to refit on belong in
        `validation_fraction`.
        """,
    ),
    "teacher": (
        documentation.PARAMETERS["teacher"][0],
        """
        Who teaches the experts. An estimator, such as another one of images, is cloned and fitted
        on the folds of `teacher_cv`, so that each image is taught by models that did not see it. It
        sees the images as you passed them, and none of the validation images. A list is averaged. A
        classifier needs `predict_proba`. A model that is fitted and shall stay as it is goes into a
        :class:`sklearn.frozen.FrozenEstimator`; it must not have seen the images. `partial_fit`
        does not use it. A fitted mixture's pickle holds neither the folds' models nor the model in
        a FrozenEstimator.

        The names teach in the refit alone. ``"mixture"``: the mixture as it was before.
        ``"ensemble"``: `n_teachers` networks of an expert's size, each with a trunk and validation
        images of its own; their predictions are averaged, and that mean with those of the
        mixture. ``"auto"``: as ``"ensemble"``, but the validation images choose how much the
        mixture counts, and nobody teaches if they prefer the mixture alone. Each expert learns to
        predict as the teacher does, on the images and on mixtures of pairs of images. None means no
        teacher, and so does a name in a fit without a refit.
        """,
    ),
}
ATTRIBUTES = {
    name: text
    for name, text in documentation.ATTRIBUTES.items()
    if name not in ("n_features_in_", "feature_names_in_")
} | {
    "encoder_": (
        "object",
        """
        The images as training saw them: `height_`, `width_`, `n_channels_`, the order of the axes
        in `layout_` and the type of the pixels in `dtype_`.
        """,
    ),
    "image_shape_": (
        "tuple of int",
        "Shape of each image, without the axis of the samples.",
    ),
}
IMAGES = RowTexts(
    kind="array of shape (n_samples, height, width) or with channels, or list of images",
    of_methods={
        ("fit", "X"): """
            Training images: uint8, or floats within [0, 1]. Or a list, a Series or a DataFrame with
            one column that holds arrays, PIL images, the bytes of files (PNG, JPEG) or their paths.
            All have one size. Pixels are taken as stored: a rotation that a camera noted is not
            applied.
            """,
        ("fit", "X_val"): """
            Validation images of your own. They replace those that `validation_fraction` holds out,
            and are never trained on, nor is there a refit without a teacher.
            """,
        ("fit", "X_unlabeled"): "Further images without targets, which the `teacher` labels.",
        ("partial_fit", "X"): "Training images.",
    },
    others="Images of the size of training. uint8 pixels count as pixels / 255 where it saw "
    "floats.",
)

Estimator = TypeVar("Estimator", bound=type)


def of_images(metric: str, predictions: str) -> Callable[[Estimator], Estimator]:
    """Fill the docstring of an estimator of images, and tell its methods that rows are images."""
    document = documentation.documented(metric, predictions, PARAMETERS, ATTRIBUTES)

    def of(estimator: Estimator) -> Estimator:
        retell_methods(estimator, IMAGES)
        return document(estimator)

    return of
