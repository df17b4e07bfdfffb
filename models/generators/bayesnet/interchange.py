"""The network in the words of pgmpy, for inference there, and as a BIF file for every other program.

pgmpy is imported when it is asked for: drawing patients needs it never, and a site may do without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from models.errors import ConfigError
from models.generators.bayesnet.network import BayesianNetwork
from models.generators.dictionary import OUTCOME, Dictionary

if TYPE_CHECKING:
    from pgmpy.models import DiscreteBayesianNetwork

__all__ = ["state_names", "to_bif", "to_pgmpy"]

_MISSING: Final = "pgmpy is not installed here: pip install 'haemfed[interop]'"


def state_names(dictionary: Dictionary) -> dict[str, list[str]]:
    """Names of the levels of every column: level_0 …, not_observed; died_0 …, alive_0 … (last seen), survived."""
    out = {c.name: [*(f"level_{k}" for k in range(c.bins)), "not_observed"] for c in dictionary.columns}
    intervals = range(dictionary.intervals)
    out[OUTCOME] = [*(f"died_{k}" for k in intervals), *(f"alive_{k}" for k in intervals), "survived"]
    return out


def to_pgmpy(network: BayesianNetwork) -> DiscreteBayesianNetwork:
    """The same graph and tables as a `pgmpy.models.DiscreteBayesianNetwork`.

    Raises:
        ConfigError: pgmpy is not installed.
    """
    try:
        from pgmpy.factors.discrete import TabularCPD  # noqa: PLC0415 - see the module
        from pgmpy.models import DiscreteBayesianNetwork  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(_MISSING) from error
    names = (*network.dictionary.names, OUTCOME)
    states = state_names(network.dictionary)
    model = DiscreteBayesianNetwork()
    model.add_nodes_from([names[j] for j in network.order])
    for j in network.order:
        parents = [names[a] for a in network.parents[j]]
        table = network.tables[j].reshape(len(network.tables[j]), -1)
        model.add_edges_from([(parent, names[j]) for parent in parents])
        model.add_cpds(
            TabularCPD(
                names[j],
                len(table),
                table / table.sum(axis=0),  # pgmpy wants sums of 1 to its own tolerance
                evidence=parents or None,
                evidence_card=[len(states[parent]) for parent in parents] or None,
                state_names={name: states[name] for name in (names[j], *parents)},
            )
        )
    return model


def to_bif(network: BayesianNetwork) -> str:
    """The network in the Bayesian Network Interchange Format, text.

    Raises:
        ConfigError: pgmpy is not installed.
    """
    model = to_pgmpy(network)
    from pgmpy.readwrite import BIFWriter  # noqa: PLC0415 - see the module

    return str(BIFWriter(model))
