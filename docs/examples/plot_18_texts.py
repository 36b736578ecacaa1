"""
Texts: which expert takes which topics?
=======================================

The texts are paragraphs of SciPy's own documentation, which comes with scikit-learn; the topic is
the module that they stand in. Paragraphs of one function are all in training, or all in the test.
"""

import importlib
import inspect
import re

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GroupShuffleSplit

from skmode import MoDETextClassifier
from skmode.inspection import expert_tokens

topics = ["fft", "interpolate", "linalg", "optimize", "signal", "spatial", "special", "stats"]
paragraphs = {}
for topic in topics:
    module = importlib.import_module(f"scipy.{topic}")
    for name in sorted(module.__all__):
        for text in re.split(r"\n\s*\n", inspect.getdoc(getattr(module, name)) or ""):
            prose = not re.search(r">>>|---|\.\. |SCIPY_ARRAY_API", text)
            if prose and len(text.split()) >= 12:
                # A paragraph that several functions share counts once.
                paragraphs.setdefault(" ".join(text.split()), (topic, f"{topic}.{name}"))
texts = np.array(list(paragraphs), dtype=object)
labels, functions = np.array(list(paragraphs.values())).T
train, test = next(GroupShuffleSplit(random_state=0).split(texts, labels, functions))

model = MoDETextClassifier(
    n_experts=3, vocab_size=3000, balance=0.1, max_epochs=5,
    inference="top_expert", random_state=0,
)  # fmt: skip
model.fit(texts[train], labels[train])
accuracy = model.score(texts[test], labels[test])
print(f"{len(train)} paragraphs in training; accuracy on {len(test)} others {accuracy:.3f}")

# %%
# Left: where the paragraphs of each topic go. Right: the words that add most to what each expert
# predicts, by integrated gradients (:func:`skmode.inspection.expert_tokens`). Nobody told the gate
# about topics; with another seed it divides them otherwise.
experts = model.route(texts[test])
shares = [np.bincount(experts[labels[test] == topic], minlength=3) for topic in topics]
shares = np.array([counts / counts.sum() for counts in shares])
words = expert_tokens(model, texts[test][:300]).by_expert(20)
words = words[words.token.str.isalpha()].groupby("expert").head(5)

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained")
left.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
for (row, column), share in np.ndenumerate(shares):
    color = "white" if share > 0.6 else "black"
    left.text(column, row, f"{share:.0%}", ha="center", va="center", color=color)
left.set(xticks=range(3), yticks=range(len(topics)), yticklabels=topics, xlabel="expert")
for expert in range(3):
    table = words[words.expert == expert]
    right.barh([f"{token} ({expert})" for token in table.token], table.importance)
right.invert_yaxis()
right.set(xlabel="importance", title="words (and their expert)")
plt.show()
