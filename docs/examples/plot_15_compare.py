"""
Which differences are more than chance?
=======================================

:func:`skmode.inspection.compare` fits models on the same splits, and corrects its test for rows
that the training parts share.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmode import MoDEClassifier
from skmode.inspection import compare

X, y = load_wine(return_X_y=True)
models = {
    "MoDE": MoDEClassifier(max_epochs=12, random_state=0),
    "one network": MoDEClassifier(1, max_epochs=12, random_state=0),
    "logistic regression": make_pipeline(StandardScaler(), LogisticRegression()),
}
result = compare(models, X, y, cv=4, repeats=1, scoring="neg_log_loss")
print(result.pairs.round(3).T)

# %%
figure, ax = plt.subplots(figsize=(6, 2.4))
ax.boxplot(result.scores.to_numpy(), orientation="horizontal", tick_labels=list(result.scores))
ax.set(xlabel="negative log loss of four folds")
plt.show()
