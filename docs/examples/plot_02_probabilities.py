"""
The top expert against the whole mixture
========================================

``inference`` chooses who predicts. Training is the same; so the two can be compared on one model.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from skmode import MoDEClassifier

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
model = MoDEClassifier(max_epochs=15, random_state=0).fit(X_train, y_train)

mixture = model.predict_proba(X_test)[:, 1]
top_expert = model.set_params(inference="top_expert").predict_proba(X_test)[:, 1]
for name, probability in {"mixture": mixture, "top expert": top_expert}.items():
    print(f"log loss of the {name}: {log_loss(y_test, probability):.4f}")
print("on the validation rows:", model.routing_difference_)

# %%
# Each point is a test row. On the diagonal both give it the same probability.
figure, ax = plt.subplots(figsize=(4.5, 4.5))
ax.scatter(mixture, top_expert, s=14, c=model.route(X_test), cmap="tab10", vmax=9)
ax.plot([0, 1], [0, 1], color="0.6", lw=1)
ax.set(xlabel="probability by the mixture", ylabel="probability by the top expert")
plt.show()
