import torch

torch.set_num_threads(1)  # tensors of a few thousand numbers: threads only wait for each other
