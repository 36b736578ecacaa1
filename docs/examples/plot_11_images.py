"""
Images: which digits does each expert get?
==========================================

Images are fitted as arrays. Then we see the images of which the gate is surest.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from skmode import MoDEImageClassifier
from skmode.inspection import TypicalImagesDisplay

digits = load_digits()
images = (digits.images * 15.9).astype("uint8")
model = MoDEImageClassifier(
    n_experts=3, trunk_channels=(8,), expert_channels=(16,), hidden_layer_sizes=(32,),
    balance=0.1, max_epochs=4, random_state=0,
)  # fmt: skip
model.fit(images[:600], digits.target[:600])
print(f"accuracy {model.score(images[600:], digits.target[600:]):.3f}")

# %%
TypicalImagesDisplay.from_estimator(model, images[600:1200])
plt.show()
