"""
Choosing alpha by cross-validation
==================================

:func:`skmode.inspection.alpha_path` fits the model with several values of ``alpha``, and says which
one it recommends and why. ``alpha=0`` is a plain mixture of experts.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_wine

from skmode import MoDEClassifier
from skmode.inspection import AlphaPathDisplay, alpha_path

X, y = load_wine(return_X_y=True)
model = MoDEClassifier(n_experts=3, max_epochs=12, random_state=0)
path = alpha_path(model, X, y, alphas=(0, 1, 10), cv=3)
print(path.reason)

# %%
# Each alpha with its standard error over the folds, for the mixture and for the top expert alone.
AlphaPathDisplay(path).plot()
plt.show()
