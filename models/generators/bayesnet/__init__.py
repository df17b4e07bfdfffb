"""A discrete Bayesian network over the coarse levels of the dictionary, learned from sums alone.

| file        | holds                                                                                  |
|-------------|----------------------------------------------------------------------------------------|
| settings    | public constants, the two schemes, the queries of a study                              |
| families    | counts of chosen tables in a vector of public length                                   |
| search      | structure from counts: spanning tree, then parents counted together, by BIC            |
| scores      | the release for small budgets: centred counts and products of scores                   |
| evidence    | structure from noisy covariances, only edges clear of the noise                        |
| association | parents and tables without noise: log-linear families with the counted pairs           |
| entropy     | least committed tables with given margins and covariances, or given tables             |
| arithmetic  | logarithm, sums and small systems with the same bits everywhere                        |
| training    | both schemes through the door                                                          |
| network     | the generator: draws, files                                                            |
| interchange | pgmpy and BIF                                                                          |
"""

from models.generators.bayesnet.interchange import to_bif, to_pgmpy
from models.generators.bayesnet.network import BayesianNetwork
from models.generators.bayesnet.settings import SCORES, TABLES, Scheme, Settings, schedule
from models.generators.bayesnet.training import initial_weights, parameter_count, train

__all__ = [
    "SCORES",
    "TABLES",
    "BayesianNetwork",
    "Scheme",
    "Settings",
    "initial_weights",
    "parameter_count",
    "schedule",
    "to_bif",
    "to_pgmpy",
    "train",
]
