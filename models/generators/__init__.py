"""Generators of synthetic patients: Bayesian network, VAE with a mixture in latent space, CTGAN."""
