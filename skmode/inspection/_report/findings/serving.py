"""Findings on serving: whether the model is worth it, and how much of it must run."""

from __future__ import annotations

from skmode.inspection._report.facts import Facts
from skmode.inspection._report.findings.finding import (
    Finding,
    amount,
    lead_text,
    loss_limit,
    loss_text,
    score_text,
)
from skmode.inspection._report.formatting import count, sentence_case


def worth(facts: Facts) -> Finding:
    """Is the mixture better than a constant prediction?"""
    loss, constant = facts.constant_loss, facts.constant_prediction
    evidence = (
        f"{sentence_case(facts.metric)} of the mixture: "
        f"{score_text(facts, facts.probing.mixture_score)}. Without a model, when {constant} is "
        f"predicted for every row: {score_text(facts, facts.baseline)}. The mixture is "
        f"{lead_text(facts, loss)} on {count(facts.n_samples, 'row')}. The constant prediction was "
        "chosen on these rows, which favours it."
    )
    if facts.beats_constant:
        return Finding(
            "good",
            "The mixture is better than a constant prediction",
            evidence,
            "Nothing to do.",
            "rows",
        )
    advice = (
        "Serve neither the mixture nor an expert yet. Check that the estimator was trained for "
        "such rows and this target, then train with fewer epochs, more rows or better features"
    )
    if loss.high >= 0:
        advice += ", or measure on more rows"
    if facts.classifies:
        advice += (
            ". If nearly all rows belong to one class, accuracy says little: compare the log loss "
            "of the probabilities"
        )
    return Finding(
        "act",
        "The mixture is worse than a constant prediction"
        if loss.high < 0
        else "The mixture is not clearly better than a constant prediction",
        evidence,
        f"{advice}.",
        "rows",
    )


def top_expert(facts: Facts, margin: float) -> Finding:
    """May the top expert predict alone?"""
    loss, limit = facts.top_loss, loss_limit(facts, margin)
    top, mixture = facts.probing.top_expert_score, facts.probing.mixture_score
    evidence = (
        f"{sentence_case(facts.metric)} of the top expert alone: {score_text(facts, top)}, of the "
        f"mixture: {score_text(facts, mixture)}. This is {loss_text(facts, loss)} on "
        f"{count(facts.n_samples, 'row')}. A loss of up to {amount(facts, limit)} counts as small."
    )
    if facts.n_experts == 1:
        return Finding(
            "note",
            "There is one expert, so the mixture is that expert",
            evidence,
            "Train with n_experts above 1 for a mixture; skmode.inspection.experts_path compares "
            "several.",
            "serving",
        )
    if not facts.beats_constant and (loss.high <= limit or loss.low > limit):
        much = "little" if loss.high <= limit else "much"
        return Finding(
            "note",
            f"The top expert alone loses {much} against the mixture",
            evidence,
            "Nothing until the mixture itself is clearly better than a constant prediction.",
            "serving",
        )
    if loss.high <= limit:
        better = "The top expert alone is even better than the mixture"
        title = better if loss.high < 0 else "The top expert alone is good enough"
        advice = (
            'Serve it: set inference="top_expert". The graph that skmode.onnx.export writes then '
            "computes one expert per row."
        )
        return Finding("good", title, evidence, advice, "serving")
    if loss.low > limit:
        return Finding(
            "act",
            "The top expert alone loses too much",
            evidence,
            'Serve the mixture (skmode.onnx.export with routing="mixture"), or train with a '
            "larger alpha, which makes each expert better alone; skmode.inspection.alpha_path "
            "tries several values.",
            "serving",
        )
    return Finding(
        "watch",
        "It is not clear whether the top expert alone is good enough",
        evidence,
        "Measure on more rows that training did not see, or decide whether a loss of "
        f"{amount(facts, loss.high)} would be acceptable.",
        "serving",
    )


def teacher(facts: Facts, margin: float) -> Finding | None:
    """Is the top expert as good as the teacher?"""
    loss = facts.teacher_loss
    if loss is None:
        return None
    limit = loss_limit(facts, margin)
    evidence = (
        f"Against the teacher the top expert alone has {loss_text(facts, loss)} on "
        f"{count(facts.n_samples, 'row')}. A loss of up to {amount(facts, limit)} counts as small."
    )
    if loss.high <= limit:
        return Finding(
            "good",
            "The top expert is as good as the teacher",
            evidence,
            "Serve the expert; the teacher is needed for training only.",
            "teacher",
        )
    clear = loss.low > limit
    return Finding(
        "watch" if clear else "note",
        "The top expert loses part of the teacher's lead"
        if clear
        else "It is not clear whether the top expert is as good as the teacher",
        evidence,
        "Give the teacher more rows to label (synthetic_rows, X_unlabeled), train more or wider "
        "experts, or ask the teacher on the rows of which the top expert is not sure.",
        "teacher",
    )


def single(facts: Facts, margin: float) -> Finding:
    """Are several experts needed?"""
    loss = facts.single_loss
    evidence = (
        f"{sentence_case(facts.metric)} of expert {facts.single} on all rows: "
        f"{score_text(facts, facts.alone[facts.single])}, of the top expert of each row: "
        f"{score_text(facts, facts.probing.top_expert_score)}. This is {loss_text(facts, loss)}. "
        "The single expert was chosen on these rows, which favours it."
    )
    if loss.low > 0:
        return Finding(
            "good",
            "Choosing an expert for each row pays off",
            evidence,
            "Keep the gate.",
            "serving",
        )
    if loss.high <= loss_limit(facts, margin):
        return Finding(
            "watch",
            "A single expert does about as well as choosing one for each row",
            evidence,
            "Train with n_experts=1 and compare by skmode.inspection.compare: it may be all that "
            "these rows need. But this expert may be good only because it learned from the others "
            "by distillation.",
            "serving",
        )
    return Finding(
        "note",
        "It is not clear whether choosing an expert for each row pays off",
        evidence,
        "Measure on more rows, or compare with n_experts=1 by skmode.inspection.compare.",
        "serving",
    )
