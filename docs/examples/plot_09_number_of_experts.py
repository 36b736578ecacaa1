"""
How many experts?
=================

:func:`skmode.inspection.experts_path` cross-validates the number of experts. One expert is a plain
network; if it is as good, take it.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_breast_cancer

from skmode import MoDEClassifier
from skmode.inspection import experts_path

X, y = load_breast_cancer(return_X_y=True)
model = MoDEClassifier(max_epochs=10, random_state=0)
path = experts_path(model, X, y, n_experts=(1, 2, 4), cv=3)
print(path.reason)

# %%
print(path.summary.round(3).iloc[:, :6])
scores = path.folds.select_dtypes("number").groupby(path.folds["n_experts"]).mean()
figure, ax = plt.subplots()
for name in ("mixture", "top_expert"):
    ax.plot(scores.index.astype(str), scores[name], marker="o", label=name.replace("_", " "))
ax.set(xlabel="experts", ylabel=f"{path.metric}, mean of three folds")
ax.legend(frameon=False)
plt.show()
