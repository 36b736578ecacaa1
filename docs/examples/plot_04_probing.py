"""
Is each expert good on its own rows?
====================================

:func:`skmode.inspection.expert_probing` scores each expert alone, on the rows that the gate sends
it and on the others.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skmode import MoDEClassifier
from skmode.inspection import ExpertProbingDisplay, expert_probing

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, train_size=600, random_state=0)
model = MoDEClassifier(balance=0.1, numeric_embedding=None, max_epochs=12, random_state=0).fit(
    X_train, y_train
)
probing = expert_probing(model, X_test, y_test)
print(probing.experts.round(3))
print(f"gate recognition {probing.gate_recognition_accuracy:.3f}")

# %%
ExpertProbingDisplay(probing).plot()
plt.show()
