"""Map of which expert answers where."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.utils import _safe_indexing, check_array, check_consistent_length, check_random_state

from skmode.inspection import _outputs
from skmode.inspection._plot import _planes, _style

Array = NDArray[Any]

# Share of the map below which a part of a region gets no number.
SMALLEST_PART = 0.01


class RoutingMapDisplay:
    """Rows in two dimensions, marked by their expert, and the gate's boundary between experts.

    Make it with :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    points : ndarray of shape (n_samples, 2)
        Place of each row.
    route : ndarray of int of shape (n_samples,)
        Expert of each row.
    grid : tuple of ndarray, default=None
        Coordinates `(nx,)` and `(ny,)` and the gate's weights there `(ny, nx, n_experts)`. None:
        no boundary.
    labels : tuple of str, default=("first dimension", "second dimension")
        What the axes are, with units.

    Attributes
    ----------
    ax_ : matplotlib Axes
        What it is drawn on.
    figure_ : matplotlib Figure
        What that belongs to.

    See Also
    --------
    skmode.inspection.route_confusion : Crosses the routes of two models.

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
    ) -> None:
        self.points = points
        self.route = route
        self.grid = grid
        self.labels = labels

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        features: Any = None,
        grid_resolution: int = 150,
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
            Two number columns to draw; on the grid the others have their median or most frequent
            value. None: the two columns, if there are no more, otherwise the plane of the
            first two principal components of standardised numbers, in which the grid is
            drawn. Where there are more than two columns, rows lie off the plane of the grid, so
            that some of them stand on another expert's side.
        grid_resolution : int, default=150
            Points of the grid in either direction.
        max_samples : int or None, default=2000
            Draw this many random rows at most; None draws all.
        random_state : int, RandomState instance or None, default=0
            Seed of the choice of these rows.
        ax : matplotlib Axes, default=None
            What to draw on. None: a new figure.

        Returns
        -------
        display : RoutingMapDisplay
            The picture.

        Raises
        ------
        ValueError
            If `features` are no two number columns, or principal components are to be found of
            columns that are no numbers.
        """
        plane = _planes.find_plane(X, features)
        mixture, rows = _outputs.unwrap(estimator, X)
        n_samples = len(plane.points)
        chosen = np.arange(n_samples)
        if max_samples is not None and n_samples > max_samples:
            chosen = check_random_state(random_state).permutation(n_samples)[:max_samples]
            rows = _safe_indexing(rows, chosen)
        points = plane.points[chosen]
        route = mixture.gate_proba(rows).argmax(axis=1)
        x, y = (_steps(values, grid_resolution) for values in points.T)
        places = np.column_stack([part.ravel() for part in np.meshgrid(x, y)])
        on_grid = _outputs.unwrap(estimator, plane.rows(places))[1]
        at_grid = mixture.gate_proba(on_grid).reshape(len(y), len(x), -1)
        return cls(points, route, (x, y, at_grid), plane.labels).plot(ax)

    @classmethod
    def from_predictions(
        cls,
        points: Any,
        gate_proba: Any,
        *,
        labels: tuple[str, str] = ("first dimension", "second dimension"),
        ax: Any = None,
    ) -> RoutingMapDisplay:
        """Draw rows whose places and gate weights are there already, without a boundary.

        Parameters
        ----------
        points : array-like of shape (n_samples, 2)
            Place of each row, by any map of the rows to two dimensions.
        gate_proba : array-like of shape (n_samples, n_experts)
            Weight of each expert.
        labels : tuple of str, default=("first dimension", "second dimension")
            What the axes are, with units.
        ax : matplotlib Axes, default=None
            What to draw on. None: a new figure.

        Returns
        -------
        display : RoutingMapDisplay
            The picture.
        """
        places = check_array(points, input_name="points")
        gate = check_array(gate_proba, input_name="gate_proba")
        check_consistent_length(places, gate)
        if places.shape[1] != 2:
            raise ValueError(
                f"points must have two columns, got {places.shape[1]}: choose or compute two."
            )
        return cls(places, gate.argmax(axis=1), None, labels).plot(ax)

    def plot(self, ax: Any = None) -> RoutingMapDisplay:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            What to draw on. None: a new figure.

        Returns
        -------
        display : RoutingMapDisplay
            Itself.
        """
        ax = _style.single_axes(ax, size=(6.4, 4.8))
        if self.grid is not None:
            self._plot_regions(ax, *self.grid)
        total = len(self.route)
        for expert in np.unique(self.route):
            members = self.points[self.route == expert]
            ax.scatter(
                *members.T,
                s=18,
                linewidths=0.4,
                edgecolors="white",
                label=f"expert {expert} ({100 * len(members) / total:.0f} % of the rows)",
                zorder=2,
                **_style.style(int(expert)),
            )
        ax.set_xlabel(self.labels[0], parse_math=False)
        ax.set_ylabel(self.labels[1], parse_math=False)
        _style.tidy(ax)
        ax.legend(
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            ncols=2,
            frameon=False,
            fontsize="small",
            markerscale=1.5,
        )
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _plot_regions(self, ax: Any, x: Array, y: Array, gate: Array) -> None:
        winner = gate.argmax(axis=2)
        for one in np.unique(winner):
            others = np.delete(gate, one, axis=2)
            # By how much its weight is ahead: zero on the boundary, wherever that passes the grid.
            ahead = gate[:, :, one] - (others.max(axis=2) if others.shape[2] else 0.0)
            color = _style.style(int(one))["color"]
            top = max(float(ahead.max()), 1e-12)
            ax.contourf(x, y, ahead, levels=[0.0, top], colors=[color], alpha=0.15, zorder=0)
            if ahead.min() < 0:
                ax.contour(x, y, ahead, levels=[0.0], colors="black", linewidths=0.9, zorder=1)
            for row, column in _middles(winner == one):
                ax.text(
                    x[column],
                    y[row],
                    str(one),
                    ha="center",
                    va="center",
                    fontweight="bold",
                    bbox={
                        "boxstyle": "circle,pad=0.2",
                        "facecolor": "white",
                        "edgecolor": "black",
                    },
                    zorder=3,
                )
        ax.set_xlim(x[0], x[-1])
        ax.set_ylim(y[0], y[-1])


def _steps(values: Array, count: int) -> Array:
    low, high = values.min(), values.max()
    margin = 0.05 * (high - low) or 0.5
    return np.linspace(low - margin, high + margin, count)


def _middles(inside: Array) -> list[tuple[int, int]]:
    """In each connected part of a region that is not tiny, the place farthest from its edge."""
    parts, count = ndimage.label(inside)
    found = []
    for part in range(1, count + 1):
        if (parts == part).sum() < SMALLEST_PART * inside.size:
            continue
        distance = ndimage.distance_transform_edt(np.pad(parts == part, 1))[1:-1, 1:-1]
        row, column = np.unravel_index(distance.argmax(), distance.shape)
        found.append((int(row), int(column)))
    return found
