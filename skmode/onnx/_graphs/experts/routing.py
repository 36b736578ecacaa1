"""Compute each row with the expert that the gate chose for it, and no other expert.

A single row, as in most requests, gathers the weights of its expert from the stack of all experts,
which costs the same for 4 and for 64 experts. With more rows each expert has an If, in which it
computes its rows with weights that the runtime packed when it loaded the model. An expert without
rows still costs its If, so many experts are put into groups with an If around each: a few rows
then skip whole groups. Each branch holds its own weights, because the runtime passes outside
values into a branch at each call, through every level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._graphs.experts.stored import StoredExperts

# With more experts than this, their Ifs are put into groups.
GROUP_SIZE = 8

# Adds to a branch what follows an expert, such as the output layer: from graph, value and name.
Finish = Callable[[GraphBuilder, str, str], str]


def emit_chosen_experts(
    graph: GraphBuilder,
    experts: StoredExperts,
    hidden: str,
    choice: str,
    finish: Finish,
    width: int,
    choices_per_row: int = 1,
) -> str:
    """Compute each row with the experts that were chosen for it."""
    if experts.n_experts == 1:
        return finish(graph, experts.apply(graph, 0, hidden, "expert_0"), "expert_0")
    rows = graph if experts.stacks is None else graph.branch()
    branches = _ExpertBranches(experts, hidden, finish, width, choices_per_row)
    answers = branches.emit(rows, choice)
    if rows is graph:
        return answers
    rows.add_output(answers, TensorProto.FLOAT, [None, width])
    one_row = graph.branch()
    answers = _emit_one_row(one_row, experts, hidden, choice, finish, choices_per_row)
    one_row.add_output(answers, TensorProto.FLOAT, [None, width])
    n_choices = graph.add("Size", [choice], "routing/n_choices")
    of_one_row = graph.constant(choices_per_row, "routing/of_one_row")
    single = graph.add("Equal", [n_choices, of_one_row], "routing/is_one_row")
    return graph.add("If", [single], "routing/outputs", then_branch=one_row, else_branch=rows)


def _emit_one_row(
    graph: GraphBuilder,
    experts: StoredExperts,
    hidden: str,
    choice: str,
    finish: Finish,
    choices_per_row: int,
) -> str:
    """Gather the weights of the chosen experts."""
    names = ["one_row"]
    chosen = [choice]
    if choices_per_row > 1:
        names = [f"one_row/choice_{i}" for i in range(choices_per_row)]
        chosen = graph.add_many("Split", [choice], names, num_outputs=choices_per_row)
    values = []
    for one, name in zip(chosen, names, strict=True):
        expert = graph.add("Squeeze", [one], f"{name}/expert")
        values.append(finish(graph, experts.apply_chosen(graph, expert, hidden, name), name))
    return values[0] if len(values) == 1 else graph.add("Concat", values, "one_row/values", axis=0)


class _ExpertBranches:
    """Ifs around experts and around groups of experts.

    With few experts each one searches all rows for its own. With many that is slow, so the rows
    are sorted by expert first.
    """

    def __init__(
        self,
        experts: StoredExperts,
        hidden: str,
        finish: Finish,
        width: int,
        choices_per_row: int,
    ) -> None:
        self.experts = experts
        self.hidden = hidden
        self.finish = finish
        self.width = width
        self.choices_per_row = choices_per_row
        parts = _split_experts(range(experts.n_experts))
        self.sort = len(parts[0]) > 1
        # Padded to whole groups, so that the counts can be reshaped to one row per group.
        self.n_counted = len(parts) * len(parts[0])

    def emit(self, graph: GraphBuilder, choice: str) -> str:
        """Results in the order of the choices."""
        height = graph.add("Shape", [choice], "routing/n_choices")
        counts = self._emit_counts(graph, choice, height)
        if self.sort:
            places = _emit_order(graph, choice, self.experts.n_experts)
            ends = graph.add("CumSum", [counts, graph.constant(0, "routing/first")], "routing/ends")
            starts = graph.add("Sub", [ends, counts], "routing/starts")
            rows: _Rows = _SortedRows(places, starts, ends)
        else:
            rows = _SearchedRows(choice)
        found = self._emit_parts(graph, range(self.experts.n_experts), rows, counts, "routing")
        if not self.sort:
            places = found[1]
        width = graph.constant([self.width], "routing/width")
        shape = graph.add("Concat", [height, width], "routing/shape", axis=0)
        zeros = graph.add("ConstantOfShape", [shape], "routing/zeros")
        last = graph.constant([1], "routing/axis")
        places = graph.add("Unsqueeze", [places, last], "routing/places")
        return graph.add("ScatterND", [zeros, places, found[0]], "routing/answers")

    def _emit_counts(self, graph: GraphBuilder, choice: str, height: str) -> str:
        """Number of rows of each expert."""
        ones = graph.add("Expand", [graph.constant(1, "routing/one"), height], "routing/ones")
        zeros = graph.constant(np.zeros(self.n_counted), "routing/no_rows")
        return graph.add(
            "ScatterElements", [zeros, choice, ones], "routing/counts", axis=0, reduction="add"
        )

    def _emit_parts(
        self, graph: GraphBuilder, members: range, rows: _Rows, counts: str, name: str
    ) -> list[str]:
        """Results of some experts, one expert after the other.

        If the rows are not sorted, the positions of the rows are returned as a second value.
        """
        parts = _split_experts(members)
        conditions = self._emit_conditions(graph, parts, counts, name)
        outputs = []
        for part, condition in zip(parts, conditions, strict=True):
            single = len(part) == 1
            inside = f"expert_{part[0]}" if single else f"experts_{part[0]}_to_{part[-1]}"
            visit, skip = graph.branch(), graph.branch()
            values = (
                self._emit_expert(visit, part[0], rows, inside)
                if single
                else self._emit_parts(visit, part, rows, counts, inside)
            )
            self._add_outputs(visit, values)
            self._add_outputs(skip, self._emit_no_rows(skip, inside))
            names = [f"{inside}/answers", f"{inside}/rows"][: len(values)]
            outputs.append(
                graph.add_many("If", [condition], names, then_branch=visit, else_branch=skip)
            )
        return [
            graph.add("Concat", values, f"{name}/{what}", axis=0)
            for values, what in zip(zip(*outputs, strict=True), ("values", "rows"), strict=False)
        ]

    def _emit_conditions(
        self, graph: GraphBuilder, parts: Sequence[range], counts: str, name: str
    ) -> list[str]:
        """Whether each part has rows."""
        first, size = parts[0][0], len(parts[0])
        stop = first + size * len(parts)
        if (first, stop) != (0, self.n_counted):
            bounds = [graph.constant([bound], f"{name}/bound") for bound in (first, stop)]
            counts = graph.add("Slice", [counts, *bounds], f"{name}/counts")
        if size > 1:
            shape = graph.constant([len(parts), size], f"{name}/groups")
            counts = graph.add("Reshape", [counts, shape], f"{name}/counts_by_group")
            axis = graph.constant([1], f"{name}/axis")
            counts = graph.add("ReduceMax", [counts, axis], f"{name}/most_rows", keepdims=0)
        any_rows = graph.add("Cast", [counts], f"{name}/any_rows", to=TensorProto.BOOL)
        names = [f"{name}/any_rows_{i}" for i in range(len(parts))]
        return graph.add_many("Split", [any_rows], names, num_outputs=len(parts))

    def _emit_expert(self, graph: GraphBuilder, expert: int, rows: _Rows, name: str) -> list[str]:
        places = rows.emit(graph, expert, name)
        of_row = places
        if self.choices_per_row > 1:
            per_row = graph.constant(self.choices_per_row, f"{name}/choices_per_row")
            of_row = graph.add("Div", [places, per_row], f"{name}/of_row")
        value = graph.add("Gather", [self.hidden, of_row], f"{name}/hidden", axis=0)
        value = self.finish(graph, self.experts.apply(graph, expert, value, name), name)
        return [value] if self.sort else [value, places]

    def _emit_no_rows(self, graph: GraphBuilder, name: str) -> list[str]:
        values = graph.constant(np.empty((0, self.width)), f"{name}/no_values", np.float32)
        nothing = [graph.add("Identity", [values], f"{name}/nothing")]
        if not self.sort:
            rows = graph.constant(np.empty(0), f"{name}/no_rows")
            nothing.append(graph.add("Identity", [rows], f"{name}/nowhere"))
        return nothing

    def _add_outputs(self, branch: GraphBuilder, values: Sequence[str]) -> None:
        branch.add_output(values[0], TensorProto.FLOAT, [None, self.width])
        if not self.sort:
            branch.add_output(values[1], TensorProto.INT64, [None])


@dataclass(frozen=True)
class _SearchedRows:
    """Find the rows of an expert by comparing the choice of every row."""

    choice: str

    def emit(self, graph: GraphBuilder, expert: int, name: str) -> str:
        index = graph.constant(expert, f"{name}/index")
        own = graph.add("Equal", [self.choice, index], f"{name}/own")
        found = graph.add("NonZero", [own], f"{name}/found")
        return graph.add("Squeeze", [found, graph.constant([0], f"{name}/axis")], f"{name}/places")


@dataclass(frozen=True)
class _SortedRows:
    """Slice the rows of an expert out of all rows, sorted by expert."""

    order: str
    starts: str
    ends: str

    def emit(self, graph: GraphBuilder, expert: int, name: str) -> str:
        index = graph.constant([expert], f"{name}/position")
        start = graph.add("Gather", [self.starts, index], f"{name}/start", axis=0)
        end = graph.add("Gather", [self.ends, index], f"{name}/end", axis=0)
        return graph.add("Slice", [self.order, start, end], f"{name}/places")


_Rows = _SearchedRows | _SortedRows


def _emit_order(graph: GraphBuilder, choice: str, n_experts: int) -> str:
    """Positions of the choices, sorted by expert."""
    # TopK of zero rows crashes some releases of onnxruntime (1.20 among them): add a row.
    extra = graph.constant([n_experts], "routing/extra_row")
    choice = graph.add("Concat", [choice, extra], "routing/choice_and_extra_row", axis=0)
    height = graph.add("Shape", [choice], "routing/sorted_height")
    names = ["routing/sorted_choice", "routing/sorted_places"]
    _, order = graph.add_many("TopK", [choice, height], names, axis=0, largest=0)
    start, stop = graph.constant([0], "first_axis"), graph.constant([-1], "before_last")
    return graph.add("Slice", [order, start, stop], "routing/order")


def _split_experts(members: range) -> list[range]:
    """Split experts into single ones if they are few, else into groups."""
    size = 1
    while size * GROUP_SIZE < len(members):
        size *= GROUP_SIZE
    return [members[i : i + size] for i in range(0, len(members), size)]
