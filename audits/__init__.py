"""Attacks on released models, bounds, verdicts, certificates and reports for data protection officers.

Import what you need from the modules: `policy`, `histogram`, `references`, `membership`, `mechanism`,
`sensitivity`, `ledger`, `verdict`, `certificate`, `report`. Importing the package alone loads none of them.
"""

__all__: list[str] = []
