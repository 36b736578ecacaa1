"""
Taught by a forest and boosted trees
====================================

An ensemble of other models teaches the experts, on folds, so that each row is taught by models that
did not see it. What is served is one expert a row.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_diabetes
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.metrics import root_mean_squared_error
from sklearn.model_selection import train_test_split

from skmode import MoDERegressor

X, y = load_diabetes(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
teacher = [
    RandomForestRegressor(40, min_samples_leaf=5, random_state=0),
    HistGradientBoostingRegressor(max_iter=30, random_state=0),
]
options = {"max_epochs": 30, "inference": "top_expert", "random_state": 0}
models = {
    "top expert": MoDERegressor(**options),
    "taught top expert": MoDERegressor(
        teacher=teacher, teacher_cv=3, teacher_weight=0.5, **options
    ),
}
errors = {
    name: root_mean_squared_error(y_test, model.fit(X_train, y_train).predict(X_test))
    for name, model in models.items()
}
taught = [each.fit(X_train, y_train).predict(X_test) for each in teacher]
errors["teacher"] = root_mean_squared_error(y_test, sum(taught) / len(taught))
print(models["taught top expert"].teacher_scores_["loss"])

# %%
# On one small table such differences are mostly chance; :doc:`/guide/teachers` says what to
# expect.
figure, ax = plt.subplots(figsize=(6, 2.4))
ax.barh(list(errors), list(errors.values()))
ax.set(xlabel="root mean squared error on the test rows")
plt.show()
