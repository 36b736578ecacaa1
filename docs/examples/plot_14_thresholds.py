"""
Another threshold, searched and exported
========================================

A false alarm and a miss seldom cost the same. scikit-learn's ``TunedThresholdClassifierCV``
searches the threshold, and the bundle keeps it.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import fbeta_score, make_scorer
from sklearn.model_selection import TunedThresholdClassifierCV

import skmode.onnx
import skmode_deploy
from skmode import MoDEClassifier

X, y = load_breast_cancer(return_X_y=True)
careful = TunedThresholdClassifierCV(
    MoDEClassifier(max_epochs=10, inference="top_expert", random_state=0),
    scoring=make_scorer(fbeta_score, beta=0.3),
    cv=3,
    store_cv_results=True,
).fit(X, y)

folder = Path(tempfile.mkdtemp()) / "careful"
skmode.onnx.export(careful, folder, X=X)
served = skmode_deploy.load(folder)
print(
    f"threshold {careful.best_threshold_:.3f}, in the bundle {served.manifest.threshold.value:.3f}"
)

# %%
figure, ax = plt.subplots()
ax.plot(careful.cv_results_["thresholds"], careful.cv_results_["scores"])
ax.axvline(careful.best_threshold_, color="0.5", ls=":")
ax.set(xlabel="threshold", ylabel="F-score that counts precision more")
plt.show()
