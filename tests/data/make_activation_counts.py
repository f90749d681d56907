#!/usr/bin/python3
"""Writes activation_counts/: counts of a layer as PyTorch and NumPy store them.

Layer 0 is int64 as PowerInfer's profiler saves it, layer 1 float32, layer 2 a
view into a longer tensor with a stride of 2, layer 3 int32 in a .npy file. Each
has 6 counts: 0, 3, 6 ... plus the number of its layer. `two_tensors.pt` and
`matrix.pt` are what readers must refuse. Needs numpy and torch (1.13).
"""
from pathlib import Path

import numpy as np
import torch

out = Path(__file__).with_name("activation_counts")
counts = torch.arange(6, dtype=torch.int64) * 3
torch.save(counts, out / "activation_0.pt")
torch.save((counts + 1).float(), out / "activation_1.pt")
longer = torch.zeros(16, dtype=torch.int64)
longer[3:15:2] = counts + 2
torch.save(longer[3:15:2], out / "activation_2.pt")
np.save(out / "activation_3.npy", (counts + 3).numpy().astype(np.int32))
torch.save([counts, counts], out / "two_tensors.pt")
torch.save(counts.reshape(2, 3), out / "matrix.pt")
torch.save(torch.nn.Parameter(counts.float()), out / "parameter.pt")
torch.save(counts.half(), out / "half.pt")
