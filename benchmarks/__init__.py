"""Measurements of haemfed, one `make bench-…` each; results/ keeps what they printed last.

The folder is a package because a dependency installs another package of this name. Its folder `secagg` has no
``__init__.py``, so that a script started from here can never take it for the product's package of that name.
"""
