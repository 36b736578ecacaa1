"""Choose the columns of a table, and name the columns of the output."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from skmode_deploy.bundle import Manifest
from skmode_deploy.bundle.messages import list_names
from skmode_deploy.running.predictor import Prediction
from skmode_deploy.running.tables.chunks import ReadOptions
from skmode_deploy.running.tables.errors import InputError


@dataclass(frozen=True)
class Selection:
    """Positions of the model's columns, in its order, and of the columns to copy."""

    model: tuple[int, ...]
    kept: tuple[int, ...]


def select_columns(names: Sequence[str], manifest: Manifest, options: ReadOptions) -> Selection:
    """Find the model's columns and those to copy among the columns of a file."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            f"The columns of a file must have different names, got {list_names(twice)} more than "
            "once: rename them."
        )
    positions = {name: i for i, name in enumerate(names)}
    lost = [name for name in options.keep if name not in positions]
    if lost:
        raise InputError(
            f"A column to keep must be in the file, got {list_names(lost)}: the file has "
            f"{list_names(names)}."
        )
    kept = tuple(positions[name] for name in options.keep)
    model = _model_positions(names, positions, manifest, options)
    extra = [name for i, name in enumerate(names) if i not in {*model, *kept}]
    if extra and not options.ignore_extra:
        raise InputError(
            f"A file must have only the columns of the model, got {list_names(extra)} as well: "
            "pass --ignore-extra to leave them out, or --keep NAME to copy one to the output."
        )
    return Selection(model, kept)


def _model_positions(
    names: Sequence[str], positions: dict[str, int], manifest: Manifest, options: ReadOptions
) -> tuple[int, ...]:
    expected = [column.name for column in manifest.columns]
    if options.by_position:
        # Kept columns do not count, so that an id column may come before the features.
        free = [i for i, name in enumerate(names) if name not in options.keep]
        if len(free) < len(expected):
            raise InputError(
                f"The file must have the {len(expected)} columns of the model in their order, got "
                f"{len(free)} that are not kept: pass the columns of training."
            )
        return tuple(free[: len(expected)])
    only = only_text_column(names, manifest, options)
    if only is not None:
        return (positions[only],)
    missing = [name for name in expected if name not in positions]
    if missing:
        fix = (
            "add them, with empty fields if nothing is known."
            if manifest.from_table
            else "pass --by-position to take the columns in the order of the file."
        )
        raise InputError(
            f"The file must have the columns of the model, got none called {list_names(missing)}: "
            f"{fix}"
        )
    return tuple(positions[name] for name in expected)


def only_text_column(names: Sequence[str], manifest: Manifest, options: ReadOptions) -> str | None:
    """Return the column that holds the texts of a model of texts, if it is clear which it is."""
    if manifest.input != "text":
        return None
    if manifest.columns[0].name in names:
        return manifest.columns[0].name
    free = [name for name in names if name not in options.keep]
    return free[0] if len(free) == 1 else None


def output_names(manifest: Manifest) -> list[str]:
    """Name the columns of the predictions."""
    names = ["prediction"]
    if manifest.classes is not None:
        names += [f"probability_{label}" for label in manifest.classes.values]
    elif manifest.n_outputs > 1:
        names = [f"prediction_{i}" for i in range(manifest.n_outputs)]
    return [*names, "expert", "gate_probability"]


def output_columns(prediction: Prediction) -> list[NDArray[Any]]:
    """Split a prediction into the columns that :func:`output_names` names."""
    columns = [prediction.value] if prediction.value.ndim == 1 else list(prediction.value.T)
    if prediction.probabilities is not None:
        columns += list(prediction.probabilities.T)
    return [*columns, prediction.expert, prediction.gate_probability]
