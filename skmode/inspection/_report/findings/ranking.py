"""All findings of a report, in the order in which they should be read."""

from __future__ import annotations

from skmode.inspection._report.facts import Facts
from skmode.inspection._report.findings import attention, experts, gate, serving
from skmode.inspection._report.findings.finding import Finding

# Kinds of findings, the most urgent first.
SEVERITY = ("act", "watch", "note", "good")


def all_findings(facts: Facts, margin: float) -> list[Finding]:
    """Make every finding: first on serving, then by urgency.

    If the mixture is not clearly better than a constant prediction, that comes before all others.
    """
    found = []
    if facts.n_experts > 1:
        found.append(serving.single(facts, margin))
        found += [experts.usage(facts), experts.beaten(facts), gate.recognition(facts)]
        found.append(experts.alike(facts))
    found += [gate.reasons(facts), attention.features(facts)]
    optional = experts.few_rows(facts), experts.lost_rows(facts), serving.teacher(facts, margin)
    found += [finding for finding in optional if finding is not None]
    if facts.beats_constant:
        found.append(serving.worth(facts))
    found.sort(key=lambda finding: SEVERITY.index(finding.kind))
    first = [] if facts.beats_constant else [serving.worth(facts)]
    return [*first, serving.top_expert(facts, margin), *found]
