"""
Choosing alpha by cross-validation
==================================

:func:`skmode.inspection.alpha_path` fits the model with several values of ``alpha``, and says which
one it recommends and why. ``alpha=0`` is a plain mixture of experts. Log loss is a better judge
than accuracy, which hides how good the probabilities are.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_wine

from skmode import MoDEClassifier
from skmode.inspection import AlphaPathDisplay, alpha_path

X, y = load_wine(return_X_y=True)
model = MoDEClassifier(n_experts=3, inference="top_expert", max_epochs=12, random_state=0)
path = alpha_path(model, X, y, alphas=(0, 1, 10), cv=3, scoring="neg_log_loss")
print(path.reason)

# %%
# Each alpha with its standard error over the folds, for the mixture and for the top expert alone.
# The scores of 0 and 1 differ by far less than that, so these 178 rows do not tell which of the two
# is better, and the smaller one is taken. 10 is worse here.
AlphaPathDisplay(path).plot()
plt.show()
