"""
A Pipeline as one ONNX file
===========================

The steps before the estimator become part of the graph. The bundle then needs numpy and
onnxruntime, and no scikit-learn.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skmode.onnx
import skmode_deploy
from skmode import MoDEClassifier

X, y = load_wine(return_X_y=True)
pipeline = make_pipeline(
    StandardScaler(), PCA(6), MoDEClassifier(max_epochs=15, inference="top_expert", random_state=0)
).fit(X, y)

folder = Path(tempfile.mkdtemp()) / "wine"
skmode.onnx.export(pipeline, folder, X=X)
served = skmode_deploy.load(folder)
difference = np.abs(served.predict_proba(X) - pipeline.predict_proba(X)).max()
print(f"largest difference of a probability: {difference:.1e}")

# %%
# The files of the bundle. ``model.onnx`` is all that a server needs beside the manifest.
sizes = {file.name: file.stat().st_size / 1000 for file in sorted(folder.iterdir())}
figure, ax = plt.subplots(figsize=(6, 3))
ax.barh(list(sizes), list(sizes.values()))
ax.set(xlabel="kB")
ax.invert_yaxis()
plt.show()
