"""
Images: which pixels decide?
============================

Integrated gradients, image by image: what each pixel adds to the prediction of the expert, and to
the choice of the gate.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from skmode import MoDEImageClassifier
from skmode.inspection import ExpertSaliencyDisplay

digits = load_digits()
images = (digits.images * 15.9).astype("uint8")
model = MoDEImageClassifier(
    n_experts=2, trunk_channels=(8,), expert_channels=(16,), hidden_layer_sizes=(32,),
    balance=0.1, max_epochs=4, random_state=0,
).fit(images[:600], digits.target[:600])  # fmt: skip
ExpertSaliencyDisplay.from_estimator(model, images[600:604])
plt.show()
