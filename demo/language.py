"""Four small language models behind a router, and a fifth that joins them while they are served.

    python demo/language.py [--output DIR] [--steps N] [--quick]

trains experts for English, French, German and Python, and beside them one model on the four
domains one after the other, and one on all at once, with as many tokens. It exports the experts,
adds Spanish to the bundle while a process serves it, checks that no other expert's file changed,
and lets onnxruntime write a few lines of each domain. The output folder gets language.png,
language.json and the bundles.
"""

import argparse
import contextlib
import copy
import hashlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import skmode.language
from skmode.datasets import fetch_domain_texts
from skmode.language import ModularLanguageModel
from skmode.language.model.fitting import build, make_lab, spool_texts
from skmode.language.setups import Phase
from skmode_deploy import language

DOMAINS = ("en", "fr", "de", "py")
NEW = "es"
NAMES = {"en": "English", "fr": "French", "de": "German", "py": "Python", "es": "Spanish"}
PROMPTS = {
    "en": "To insert a new column, choose",
    "fr": "Pour insérer une nouvelle colonne,",
    "de": "Um eine neue Spalte einzufügen,",
    "py": "def __init__(self, name):\n",
    "es": "Para insertar una columna nueva,",
}
TEST_BYTES = 24_000
# Okabe and Ito's colours for the colour-blind; hatches tell the same in black and white.
STYLES = {
    "one after the other": {"color": "#999999", "hatch": "//"},
    "all at once": {"color": "#56B4E9", "hatch": ".."},
    "experts, routed": {"color": "#D55E00"},
}


def main():
    options = parse_options()
    begin = time.perf_counter()
    options.output.mkdir(parents=True, exist_ok=True)
    train, test = load((*DOMAINS, NEW))

    model = fit_experts(train, options)
    scores = compare_training(model, train, test, options)
    print_scores(scores)
    draw(scores, options.output / "language.png")

    models = options.output / "models"
    shutil.rmtree(models, ignore_errors=True)
    served = add_while_served(model, train, models, options)
    folder = models / "lm"
    runtime = measure_runtime(folder, test)
    write_samples(folder)

    results = {
        "steps": options.steps,
        "bits_per_byte": scores,
        "routing": routing(folder, test),
        "added": served,
        "runtime": runtime,
        "seconds": round(time.perf_counter() - begin),
    }
    (options.output / "language.json").write_text(json.dumps(results, indent=1) + "\n")
    print(f"\n{results['seconds']} s; figure, figures and bundle are in {options.output}")


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "output")
    parser.add_argument("--steps", type=int, default=250, help="of each model for each domain")
    parser.add_argument("--quick", action="store_true", help="hardly train")
    options = parser.parse_args()
    if options.quick:
        options.steps = 4
    return options


def load(domains):
    """Return the texts of each domain for training, and some for the test."""
    parts = []
    for subset in ("train", "test"):
        corpus = fetch_domain_texts(domains, subset=subset)
        texts, names = np.array(corpus.texts, object), np.array(corpus.domains)
        rng = np.random.RandomState(0)
        parts.append({name: list(rng.permutation(texts[names == name])) for name in domains})
    return parts[0], {name: "".join(texts)[:TEST_BYTES] for name, texts in parts[1].items()}


def fit_experts(train, options):
    """Train a student on all domains for three quarters of the steps, and experts for the rest."""
    print("Experts: a start on all domains, then each on its own", flush=True)
    model = ModularLanguageModel(
        "tiny" if options.quick else "small",
        teacher=None,
        warm_start_steps=3 * options.steps,
        steps=options.steps // 4,
        random_state=0,
        verbose=True,
    )
    return model.fit(*pairs(train, DOMAINS))


def compare_training(model, train, test, options):
    """Return the bits per byte of one model in sequence, of one at once, and of the experts.

    The learning rate of the one at once falls as late as that of the experts.
    """
    print(
        "Beside them: one model on the domains one after the other, one on all at once", flush=True
    )
    plans = {
        "one after the other": [([name], options.steps, True) for name in DOMAINS],
        "all at once": [
            (list(DOMAINS), 3 * options.steps, False),
            (list(DOMAINS), options.steps, True),
        ],
    }
    tests = [test[name] for name in DOMAINS]
    scores = {}
    with tempfile.TemporaryDirectory() as folder:
        spool = spool_texts(Path(folder), *pairs(train, DOMAINS))
        lab = make_lab(model, spool, model.tokenizer_)
        for kind, plan in plans.items():
            one = build(lab, "student", model.student, model.tokenizer_, model.max_length)
            for i, (domains, steps, decays) in enumerate(plan):
                name = f"{kind} {i + 1}: {' '.join(domains)}"
                lab.train(Phase(name, {"one": one}, {"one": domains}, steps, decays=decays))
            single = copy.copy(model)
            single.experts_ = dict.fromkeys(DOMAINS, one)
            scores[kind] = by_domain(single.bits_per_byte(tests, DOMAINS))
    scores["experts, routed"] = by_domain(model.bits_per_byte(tests))
    return scores


def add_while_served(model, train, models, options):
    """Add Spanish to a model that a process serves; return what changed, and what clients saw."""
    skmode.language.export(model, models / "lm" / "1")
    before = hashes(models / "lm" / "1")
    print("\nA process serves the four; Spanish joins, without the texts of the others", flush=True)
    with serving(models) as url, Client(url, PROMPTS[NEW]) as client:
        begin = time.perf_counter()
        model.add_expert(NEW, train[NEW], steps=options.steps)
        trained = time.perf_counter()
        skmode.language.export(model, models / "lm" / "2", only=[NEW], base=models / "lm" / "1")
        exported = time.perf_counter()
        client.wait_for(NEW)
        seen = time.perf_counter()
    after = hashes(models / "lm" / "2")
    same = sorted(name for name in before if after[name] == before[name])
    if not {name for name in before if name.startswith("expert_")} <= set(same):
        raise SystemExit("An old expert's file changed.")
    print("unchanged, byte for byte: " + ", ".join(same))
    first, last = client.domains[0], client.domains[-1]
    print(
        f"{len(client.domains)} requests meanwhile, {client.failures} failed. Spanish was written "
        f"by the expert {first!r}, and by {last!r} from {seen - exported:.1f} s after the export "
        "on, without a restart"
    )
    return {
        "unchanged": same,
        "training_seconds": round(trained - begin, 1),
        "export_seconds": round(exported - trained, 1),
        "seconds_until_served": round(seen - exported, 1),
        "requests": len(client.domains),
        "failures": client.failures,
    }


@contextlib.contextmanager
def serving(models):
    """Run `skmode-deploy serve --watch`; yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "skmode_deploy", "serve", models, "--watch"]
    command += ["--watch-interval", "0.2", "--http-port", str(port), "--grpc-port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/v2/health/ready"):
                break
            time.sleep(0.1)
        else:
            raise SystemExit("The server did not start: run `skmode-deploy serve` to see why.")
        yield url
    finally:
        process.terminate()
        process.wait()


class Client(threading.Thread):
    """Asks for the continuation of a prompt again and again; notes whose expert wrote it."""

    def __init__(self, url, prompt):
        super().__init__(daemon=True)
        self.url, self.prompt = url, prompt
        self.domains, self.failures, self.ends = [], 0, False

    def run(self):
        body = json.dumps({"model": "lm", "prompt": self.prompt, "max_tokens": 8}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/v1/completions", body, headers)
        while not self.ends:
            try:
                with urllib.request.urlopen(request, timeout=60) as response:
                    self.domains.append(json.load(response)["choices"][0]["domain"])
            except OSError:
                self.failures += 1
            time.sleep(0.05)

    def wait_for(self, domain, seconds=60):
        end = time.perf_counter() + seconds
        while domain not in self.domains[-1:]:
            if time.perf_counter() > end:
                raise SystemExit(f"No request was served by the expert of {domain!r}.")
            time.sleep(0.05)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exception):
        self.ends = True
        self.join()


def routing(versions, test):
    """Return the share of lines of the test that go to their expert, before and after."""
    found = {}
    for version, domains in (("1", DOMAINS), ("2", (*DOMAINS, NEW))):
        model = language.load(versions / version)
        lines = {
            name: [line for line in test[name].splitlines() if len(line.split()) >= 5][:200]
            for name in domains
        }
        found[version] = {
            name: round(float(np.mean(model.route(own) == name)), 4) for name, own in lines.items()
        }
        print(f"routing of lines, version {version}: {found[version]}")
    return found


def measure_runtime(versions, test):
    """Return tokens per second with the cache and without."""
    model = language.load(versions / "2")
    prompt = test["en"][:200]
    n = 60
    model.generate(prompt, max_tokens=2, domain="en")
    begin = time.perf_counter()
    model.generate(prompt, max_tokens=n, domain="en")
    cached = n / (time.perf_counter() - begin)
    begin = time.perf_counter()
    text = prompt
    for _ in range(n):
        text += model.generate(text, max_tokens=1, domain="en") or " "
    plain = n / (time.perf_counter() - begin)
    print(f"\nonnxruntime: {cached:.0f} tokens per second with cache, {plain:.0f} without")
    return {"with_cache": round(cached), "without_cache": round(plain)}


def write_samples(versions):
    model = language.load(versions / "2")
    for name, prompt in PROMPTS.items():
        text = model.generate(
            prompt, max_tokens=40, domain=name, temperature=0.7, top_p=0.9, seed=0
        )
        print(f"\n{NAMES[name]}: {prompt} ... {text.strip()}")


def pairs(texts, domains):
    """Return texts and their domains."""
    flat = [(text, name) for name in domains for text in texts[name]]
    return [text for text, _ in flat], [name for _, name in flat]


def by_domain(scores):
    return {name: round(float(score), 3) for name, score in zip(DOMAINS, scores, strict=True)}


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def print_scores(scores):
    print(
        f"\n{'bits per byte':22}" + "".join(f"{NAMES[name]:>10}" for name in DOMAINS) + "      mean"
    )
    for kind, own in scores.items():
        cells = "".join(f"{own[name]:10.3f}" for name in DOMAINS)
        print(f"{kind:22}{cells}{np.mean(list(own.values())):10.3f}")


def draw(scores, path):
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(DOMAINS))
    for i, (kind, own) in enumerate(scores.items()):
        axes.bar(places + (i - 1) * 0.27, list(own.values()), 0.25, label=kind, **STYLES[kind])
    axes.set_xticks(places, [NAMES[name] for name in DOMAINS])
    axes.set_ylabel("bits per byte (less is better)")
    axes.set_title("One model forgets what it learned first; experts do not")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
