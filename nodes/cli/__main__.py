"""`python -m nodes.cli` is `haemfed`."""

from nodes.cli import main

main()
