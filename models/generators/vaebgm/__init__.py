"""A variational autoencoder over the public dictionary with a Gaussian mixture of its codes, learned from sums alone.

| file                 | holds                                                              |
|----------------------|--------------------------------------------------------------------|
| settings             | public constants, the queries of a study, EM's public start        |
| coding               | patients as the network's inputs and targets                       |
| form                 | names, shapes and start of the parameters; encoder and decoder     |
| autoencoder_network  | the network in torch, and the bound as a sum over patients         |
| training             | frequencies, gradients and EM rounds through the door              |
| model                | the generator: draws, files                                        |
"""

from models.generators.vaebgm.model import VAEBGM
from models.generators.vaebgm.settings import OPEN, PRIVATE, Settings, schedule
from models.generators.vaebgm.training import initial_weights, parameter_count, train

__all__ = ["OPEN", "PRIVATE", "VAEBGM", "Settings", "initial_weights", "parameter_count", "schedule", "train"]
