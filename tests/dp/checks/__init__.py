"""Small, fast checks, each of which states one property of the code that protects patients.

They run twice: as tests of the product (`tests/dp/test_mutants.py`), and each planted bug of `tests/dp/mutants.py`
names the one that must fail. A check takes no argument, imports what it looks at when it is called, compares with
nothing that was stored, and raises `AssertionError` (or whatever the broken code raises) if the property does not hold.
"""
