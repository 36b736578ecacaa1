"""The model card of a modular language model."""

from skmode_deploy.bundle.card.markdown import MAX_VALUES, escape, quote, table, versions_table
from skmode_deploy.bundle.layout import COMMON, ROUTER, domain_file
from skmode_deploy.bundle.manifest import Domain, Manifest

MAX_DOMAINS = 200  # in the table; the others are in the manifest

_USE = """With numpy, onnxruntime and a tokenizer, through skmode-deploy, which checks every file:

```python
import skmode_deploy.language

model = skmode_deploy.language.load("this folder")
model.route(["Some text."])
model.score(["Some text."])
model.generate("Some text", max_tokens=20)
```

On the command line: `skmode-deploy generate "this folder" "Some text"`, and `skmode-deploy verify
"this folder"` to check the files and the predictions for the sample texts."""


def language_card(manifest: Manifest) -> str:
    """Write the model card."""
    n_domains = "1 domain" if manifest.n_experts == 1 else f"{manifest.n_experts} domains"
    sections = [
        f"# Language model of {n_domains}",
        _summary(manifest),
        "## Domains",
        _domains(manifest),
        "## Limits",
        _limits(manifest),
        "## Use",
        _USE,
        "## Versions",
        versions_table(manifest.versions),
    ]
    if manifest.notes:
        sections += ["## Notes", quote(manifest.notes.strip())]
    return "\n\n".join(sections) + "\n"


def _summary(manifest: Manifest) -> str:
    how = {
        "top_expert": "one expert, which the router chooses",
        "mixture": f"one expert, which the router chooses, and `{COMMON}`: their mean logits",
    }[manifest.routing]
    return (
        f"Exported on {manifest.created} by skmode. `{ROUTER}` tells the domain of a text; tokens "
        f"are predicted by {how}.\n\n"
        "`manifest.json` states the same facts, and the hash of each file."
    )


def _domains(manifest: Manifest) -> str:
    assert manifest.language is not None
    domains = manifest.language.domains
    heads = ["Domain", "File", "Share of the training texts", "Weights"]
    rows = [
        [
            escape(domain.name),
            f"`{domain_file(domain.name)}`",
            f"{100 * share:.1f} %",
            "32 bits"
            if domain.quantization_loss is None
            else f"8 bits, {domain.quantization_loss:+.4f} bits per byte",
        ]
        for domain, share in zip(domains, manifest.expert_usage, strict=True)
    ]
    taught = any(domain.alpha is not None for domain in domains)
    if taught:
        heads.append("Alpha")
        rows = [[*row, _alpha(domain)] for row, domain in zip(rows, domains, strict=True)]
    text = table(heads, rows[:MAX_DOMAINS])
    if len(rows) > MAX_DOMAINS:
        text += f"\n\nand {len(rows) - MAX_DOMAINS} more domains, which `manifest.json` lists."
    if taught:
        text += (
            "\n\nAlpha is the weight of the teacher's loss in the training of an expert, or the "
            "rule or schedule that set it."
        )
    if manifest.validation_scores:
        scores = sorted(manifest.validation_scores.items())[: MAX_DOMAINS * MAX_VALUES]
        shown = [(escape(name), f"{score:.4g}") for name, score in scores]
        text += f"\n\nScores of the training:\n\n{table(('What', 'Score'), shown)}"
    return text


def _alpha(domain: Domain) -> str:
    if domain.alpha is None:
        return "no teacher"
    return f"`{domain.alpha}`" if isinstance(domain.alpha, str) else f"{domain.alpha:g}"


def _limits(manifest: Manifest) -> str:
    language = manifest.language
    assert language is not None
    unknown = (
        "Each text gets a domain."
        if language.min_confidence is None
        else f"Where its confidence is below {language.min_confidence:.6g}, the domain is unknown."
    )
    return (
        f"An expert reads at most {language.max_length} of {manifest.n_outputs} different tokens; "
        f"token {language.end_token} ends a text. The router reads the first "
        f"{language.router_bytes} bytes of a text. {unknown}"
    )
