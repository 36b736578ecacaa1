"""
Which columns do gate and experts look at?
==========================================

By permutation: a column is shuffled, and the drop of the score tells how much an expert needs it on
its own rows. For the gate it is the share of the rows that change their expert.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_wine

from skmode import MoDEClassifier
from skmode.inspection import ExpertAttentionDisplay

X, y = load_wine(return_X_y=True, as_frame=True)
model = MoDEClassifier(n_experts=3, balance=0.1, max_epochs=20, random_state=0).fit(X, y)
ExpertAttentionDisplay.from_estimator(model, X, y, random_state=0, max_features=8)
plt.show()
