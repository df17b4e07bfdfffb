"""A conditional GAN over the public dictionary, its critic learned from sums of clipped gradients alone.

Its generator is the module of the package ctgan (extra `ctgan`), its critic that package's without hidden layers over
products of columns (`adversaries`). The package is needed for training and for `to_ctgan`; whoever only draws needs
neither it nor torch.

| file         | holds                                                                 |
|--------------|-----------------------------------------------------------------------|
| settings     | public constants, the queries of a study, the banner                  |
| coding       | patients as rows, what the critic looks at, conditions                |
| arithmetic   | rounding to a public lattice, public draws, projection                |
| form         | names, shapes and start of the generator's parameters; it in numpy    |
| adversaries  | the generator in torch, the critic, what generated rows teach them    |
| training     | frequencies and the critic's gradients through the door               |
| model        | the generator: draws, files                                           |
| interchange  | the generator as a `ctgan.CTGAN`                                      |
"""

from models.generators.ctgan.interchange import to_ctgan
from models.generators.ctgan.model import CTGAN
from models.generators.ctgan.settings import BANNER, OPEN, PRIVATE, Settings, schedule
from models.generators.ctgan.training import initial_weights, parameter_count, ready, train

__all__ = [
    "BANNER",
    "CTGAN",
    "OPEN",
    "PRIVATE",
    "Settings",
    "initial_weights",
    "parameter_count",
    "ready",
    "schedule",
    "to_ctgan",
    "train",
]
