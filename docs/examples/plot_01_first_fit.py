"""
A first mixture, and what its gate decides
==========================================

Fit a classifier, predict, and see which expert each row goes to. The two columns are drawn as a
plane, so the regions of the experts can be seen.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import make_moons

from skmode import MoDEClassifier
from skmode.inspection import RoutingMapDisplay

X, y = make_moons(400, noise=0.2, random_state=0)
model = MoDEClassifier(n_experts=3, balance=0.1, max_epochs=15, random_state=0).fit(X, y)
print(
    f"accuracy {model.score(X, y):.3f}, share of the rows by expert: {model.expert_usage_.round(2)}"
)

# %%
# The markers show the expert of each row, the lines where the gate switches between experts.
RoutingMapDisplay.from_estimator(model, X, grid_resolution=60)
plt.show()
