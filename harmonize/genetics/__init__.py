"""Genes, HGVS names and reported variants: what a laboratory says, in the words of the profile."""
