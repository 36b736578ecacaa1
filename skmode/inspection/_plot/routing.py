"""Display of a map: the regions of the experts."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.utils import check_array, check_consistent_length, check_random_state

from skmode._common.sklearn import safe_indexing
from skmode._common.unwrap import to_dense
from skmode.inspection._evaluation import mixtures
from skmode.inspection._evaluation.weights import weight_or_ones
from skmode.inspection._plot import projections, style

Array = NDArray[Any]

# Rows that give the grid its other columns: a point is averaged over these.
BACKGROUND = 30

# Points of the grid in each direction: FINE if a point costs one row, COARSE if it costs many.
FINE, COARSE = 150, 50

# Share of the map below which a part of a region gets no number.
MIN_PART = 0.01

LEGEND = "expert: share of the rows shown"


class RoutingMapDisplay:
    """Rows in two dimensions, marked by their expert, and the gate's boundary between experts.

    Create it with :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    points : ndarray of shape (n_samples, 2)
        Place of each row.
    route : ndarray of int of shape (n_samples,)
        Expert of each row.
    grid : tuple of ndarray, default=None
        Coordinates `(nx,)` and `(ny,)` and the gate's weights there `(ny, nx, n_experts)`. None
        draws no boundary.
    labels : tuple of str, default=("first dimension", "second dimension")
        Labels of the axes, with units.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows, for the experts' shares in the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the picture.
    figure_ : matplotlib Figure
        Figure of these axes.

    See Also
    --------
    skmode.inspection.route_confusion : Which experts of two models share rows.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skmode import MoDEClassifier
    >>> from skmode.inspection import RoutingMapDisplay
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> classifier = MoDEClassifier(n_experts=2, random_state=0).fit(X, y)
    >>> display = RoutingMapDisplay.from_estimator(
    ...     classifier, X, features=["petal length (cm)", "petal width (cm)"]
    ... )
    >>> display.ax_.get_xlabel()
    'petal length (cm)'
    """

    def __init__(
        self,
        points: Array,
        route: Array,
        grid: tuple[Array, Array, Array] | None = None,
        labels: tuple[str, str] = ("first dimension", "second dimension"),
        sample_weight: Any = None,
    ) -> None:
        self.points = points
        self.route = route
        self.grid = grid
        self.labels = labels
        self.sample_weight = sample_weight

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        features: Any = None,
        sample_weight: Any = None,
        grid_resolution: int | None = None,
        max_samples: int | None = 2000,
        random_state: Any = 0,
        ax: Any = None,
    ) -> RoutingMapDisplay:
        """Route rows and a grid, and draw them.

        Parameters
        ----------
        estimator : object
            A fitted mixture, or a Pipeline or search that ends with one.
        X : {array-like, DataFrame} of shape (n_samples, n_features)
            Rows.
        features : pair of int or str, default=None
            Two number columns to draw. None takes the two columns if there are no others, and the
            plane of the first two principal components of standardised numbers otherwise.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, for the experts' shares in the legend and the gate's mean on the
            grid. Rows without weight are not drawn.
        grid_resolution : int or None, default=None
            Points of the grid in each direction, at least 2. None means 150, or 50 if there are
            columns besides the two of `features`.
        max_samples : int or None, default=2000
            Draw at most this many rows, chosen at random; None draws all.
        random_state : int, RandomState instance or None, default=0
            Seed of the choice of rows, for the points and for the grid.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.

        Returns
        -------
        display : RoutingMapDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If `features` are not two number columns; if principal components are needed, but a
            column holds no numbers or there is a single row; or if a number is out of its range.

        Notes
        -----
        With only two columns, the boundary is exact. With more, the shades show which expert the
        gate prefers on average: each point of the grid is put into the two columns of 30 of the
        drawn rows, their other columns are kept, and the gate's weights are averaged (partial
        dependence, see :class:`sklearn.inspection.PartialDependenceDisplay`). A row may thus lie
        in another expert's region, because of its other columns. With principal components, the
        grid lies in their plane, and rows lie off it.
        """
        style.check_number("grid_resolution", grid_resolution, 2)
        style.check_number("max_samples", max_samples, 1)
        mixture, rows = mixtures.unwrap(estimator, X)
        if not mixtures.reads_columns(mixture):
            cure = "TypicalImagesDisplay" if mixtures.reads_images(mixture) else "typical_texts"
            raise TypeError(
                "A map of routes needs the columns of a table, got a "
                f"{type(mixture).__name__}: use {cure}."
            )
        plane = projections.find_projection(to_dense(X), features)
        weight = weight_or_ones(sample_weight, len(plane.points))
        random_state = check_random_state(random_state)
        chosen = np.flatnonzero(weight > 0)
        if max_samples is not None and len(chosen) > max_samples:
            chosen = random_state.permutation(chosen)[:max_samples]
        points = plane.points[chosen]
        route = mixture.gate_proba(safe_indexing(rows, chosen)).argmax(axis=1)
        n_steps = grid_resolution or (COARSE if plane.has_others else FINE)
        x, y = (_steps(values, n_steps) for values in points.T)
        places = np.column_stack([part.ravel() for part in np.meshgrid(x, y)])
        like = random_state.permutation(chosen)[:BACKGROUND] if plane.has_others else chosen[:1]
        gate = np.average(
            [_gate(estimator, mixture, plane.rows(places, row)) for row in like],
            axis=0,
            weights=weight[like],
        )
        grid = x, y, gate.reshape(len(y), len(x), -1)
        return cls(points, route, grid, plane.labels, weight[chosen]).plot(ax)

    @classmethod
    def from_predictions(
        cls,
        points: Any,
        gate_proba: Any,
        *,
        labels: tuple[str, str] = ("first dimension", "second dimension"),
        sample_weight: Any = None,
        ax: Any = None,
    ) -> RoutingMapDisplay:
        """Draw rows from given places and gate weights, without a boundary.

        Parameters
        ----------
        points : array-like of shape (n_samples, 2)
            Place of each row, by any map of the rows to two dimensions.
        gate_proba : array-like of shape (n_samples, n_experts)
            Weight of each expert.
        labels : tuple of str, default=("first dimension", "second dimension")
            Labels of the axes, with units.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, for the experts' shares in the legend.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.

        Returns
        -------
        display : RoutingMapDisplay
            The display, drawn.
        """
        places = check_array(points, input_name="points")
        gate = check_array(gate_proba, input_name="gate_proba")
        check_consistent_length(places, gate)
        if places.shape[1] != 2:
            raise ValueError(
                f"points must have two columns, got {places.shape[1]}: choose or compute two."
            )
        weight = weight_or_ones(sample_weight, len(places))
        return cls(places, gate.argmax(axis=1), None, labels, weight).plot(ax)

    def plot(self, ax: Any = None) -> RoutingMapDisplay:
        """Draw the map.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure. The legend is placed outside of the axes if
            the figure has a layout engine (``plt.subplots(..., layout="constrained")``), inside
            otherwise.

        Returns
        -------
        display : RoutingMapDisplay
            The display itself.
        """
        ax = style.single_axes(ax, size=(6.4, 4.8))
        if self.grid is not None:
            self._plot_regions(ax, *self.grid)
        weight = weight_or_ones(self.sample_weight, len(self.route))
        for expert in np.unique(self.route):
            members = self.route == expert
            share = weight[members].sum() / weight.sum()
            ax.scatter(
                *self.points[members].T,
                s=18,
                linewidths=0.4,
                edgecolors="white",
                label=f"{expert}: {style.percent(share)}",
                zorder=2,
                **style.style(int(expert)),
            )
        ax.set_xlabel(textwrap.fill(self.labels[0], 60), parse_math=False)
        ax.set_ylabel(textwrap.fill(self.labels[1], 30), parse_math=False)
        style.tidy(ax)
        style.legend(ax, title=LEGEND, markerscale=1.5, columnspacing=1.0)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _plot_regions(self, ax: Any, x: Array, y: Array, gate: Array) -> None:
        winner = gate.argmax(axis=2)
        for one in np.unique(winner):
            others = np.delete(gate, one, axis=2)
            # Its lead over the next weight is zero on the boundary, also between grid points.
            ahead = gate[:, :, one] - (others.max(axis=2) if others.shape[2] else 0.0)
            color = style.style(int(one))["color"]
            top = max(float(ahead.max()), 1e-12)
            ax.contourf(x, y, ahead, levels=[0.0, top], colors=[color], alpha=0.15, zorder=0)
            if ahead.min() < 0:
                ax.contour(x, y, ahead, levels=[0.0], colors="black", linewidths=0.9, zorder=1)
            for row, column in _middles(winner == one, self._taken(x, y)):
                ax.text(
                    x[column],
                    y[row],
                    str(one),
                    ha="center",
                    va="center",
                    fontsize="small",
                    fontweight="bold",
                    bbox={
                        "boxstyle": "circle,pad=0.15",
                        "facecolor": "white",
                        "edgecolor": "black",
                    },
                    zorder=3,
                )
        ax.set_xlim(x[0], x[-1])
        ax.set_ylim(y[0], y[-1])

    def _taken(self, x: Array, y: Array) -> Array:
        """Mark the grid points that rows lie on, (ny, nx)."""
        taken = np.zeros((len(y), len(x)), dtype=bool)
        columns, rows = (
            np.abs(steps[:, None] - values).argmin(axis=0)
            for steps, values in zip((x, y), self.points.T, strict=True)
        )
        taken[rows, columns] = True
        return taken


def _steps(values: Array, count: int) -> Array:
    low, high = values.min(), values.max()
    margin = 0.05 * (high - low) or 0.5
    return np.linspace(low - margin, high + margin, count)


def _gate(estimator: Any, mixture: Any, X: Any) -> Array:
    return np.asarray(mixture.gate_proba(mixtures.unwrap(estimator, X)[1]))


def _middles(inside: Array, taken: Array) -> list[tuple[int, int]]:
    """Find, in each larger part of a region, the grid point farthest from its edge and from rows.

    Both masks and the points (row, column) are those of the grid, (ny, nx).
    """
    parts, count = ndimage.label(inside)
    found = []
    for part in range(1, count + 1):
        if (parts == part).sum() < MIN_PART * inside.size:
            continue
        free = (parts == part) & ~taken
        if not free.any():
            free = parts == part
        distance = ndimage.distance_transform_edt(np.pad(free, 1))[1:-1, 1:-1]
        row, column = np.unravel_index(distance.argmax(), distance.shape)
        found.append((int(row), int(column)))
    return found
