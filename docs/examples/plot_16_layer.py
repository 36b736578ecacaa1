"""
A mixture of experts inside a torch network
===========================================

:class:`skmode.nn.MoDELayer` takes the place of a feed-forward layer. One line adds its losses.
"""

import matplotlib.pyplot as plt
import torch

from skmode.nn import MoDELayer, auxiliary_loss

torch.manual_seed(0)
X = torch.rand(512, 2) * 2 - 1
y = torch.sin(3 * X[:, :1]) * torch.sign(X[:, 1:])
network = torch.nn.Sequential(
    torch.nn.Linear(2, 16),
    torch.nn.SiLU(),
    MoDELayer(16, n_experts=4, alpha=0.1),
    torch.nn.Linear(16, 1),
)
optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
losses = []
for _ in range(150):
    task = torch.nn.functional.mse_loss(network(X), y)
    loss = task + auxiliary_loss(network)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(task.item())

# %%
figure, ax = plt.subplots()
ax.plot(losses)
ax.set(xlabel="step", ylabel="squared error", yscale="log")
plt.show()
