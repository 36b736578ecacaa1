"""
What happens during training
============================

Losses, the share of each expert and how much the experts agree, epoch by epoch.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from skmode import MoDEClassifier
from skmode.inspection import GateHistoryDisplay

X, y = load_digits(return_X_y=True)
model = MoDEClassifier(balance=0.1, numeric_embedding=None, max_epochs=12, random_state=0)
model.fit(X[:600], y[:600])
print(f"{model.n_iter_} epochs, then {model.refit_n_iter_} of the refit")

# %%
GateHistoryDisplay.from_estimator(model)
plt.show()
