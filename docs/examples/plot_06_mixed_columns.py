"""
Categories and missing values
=============================

A DataFrame is read as it is: strings and categories, missing values in any column, categories that
training did not see.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skmode import MoDERegressor

random = np.random.default_rng(0)
n = 500
size = random.uniform(20, 120, n)
town = random.choice(["Bern", "Basel", "Chur"], n)
rent = 12 * size + 400 * (town == "Bern") - 3 * size * (town == "Chur") + random.normal(0, 60, n)
size[random.random(n) < 0.1] = np.nan
X = pd.DataFrame({"size": size, "town": town})

model = MoDERegressor(max_epochs=30, random_state=0).fit(X, rent)
new = pd.DataFrame({"size": [80, np.nan, 80], "town": ["Bern", "Chur", "Geneva"]})
print(new.assign(rent=model.predict(new).round()))

# %%
figure, ax = plt.subplots()
for name in ("Bern", "Basel", "Chur"):
    rows = pd.DataFrame({"size": np.linspace(20, 120, 50), "town": name})
    ax.plot(rows["size"], model.predict(rows), label=name)
ax.scatter(size, rent, s=6, color="0.6", zorder=0)
ax.set(xlabel="size (square metres)", ylabel="rent")
ax.legend(frameon=False)
plt.show()
