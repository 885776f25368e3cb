import torch

torch.set_num_threads(1)  # small tensors: one thread is fastest, and sums come out the same to the bit
