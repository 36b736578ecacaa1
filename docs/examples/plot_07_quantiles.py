"""
Quantiles instead of means
==========================

``loss="quantile"`` predicts a quantile of the target. Two models give an interval.
"""

import matplotlib.pyplot as plt
import numpy as np

from skmode import MoDERegressor

random = np.random.default_rng(0)
x = np.sort(random.uniform(0, 10, 400))
y = np.sin(x) + random.normal(0, 0.1 + 0.05 * x)
X = x[:, None]

curves = {
    level: MoDERegressor(loss="quantile", quantile=level, max_epochs=40, random_state=0)
    .fit(X, y)
    .predict(X)
    for level in (0.1, 0.9)
}
inside = np.mean((curves[0.1] <= y) & (y <= curves[0.9]))
print(f"{inside:.0%} of the training rows lie inside; 80 % were asked for")

# %%
figure, ax = plt.subplots()
ax.scatter(x, y, s=6, color="0.6")
ax.fill_between(x, curves[0.1], curves[0.9], alpha=0.3, label="10 % to 90 %")
ax.set(xlabel="x", ylabel="y")
ax.legend(frameon=False)
plt.show()
