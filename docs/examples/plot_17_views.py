"""
Rows whose class can be told in two ways
========================================

:func:`skmode.datasets.make_multi_view` makes up rows with several views of each class, some
rows with one view only. Networks neglect views; :doc:`/evidence/replication` tells what
distillation
does about it.
"""

import matplotlib.pyplot as plt

from skmode import MoDEClassifier
from skmode.datasets import make_multi_view

X, y, details = make_multi_view(
    900, n_classes=4, single_view_share=0.1, random_state=0, return_details=True
)
print(f"{details.single_view.mean():.0%} of the rows show a single view")
scores = {}
for alpha in (0, 1, 10):
    model = MoDEClassifier(alpha=alpha, max_epochs=12, random_state=0).fit(X[:400], y[:400])
    scores[alpha] = model.score(X[400:], y[400:])

# %%
figure, ax = plt.subplots(figsize=(5, 3))
ax.bar([str(alpha) for alpha in scores], list(scores.values()))
ax.set(xlabel="alpha", ylabel="accuracy on new rows", ylim=(min(scores.values()) - 0.02, 1))
plt.show()
