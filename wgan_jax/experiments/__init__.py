"""The papers' figures as commands, each with its numbers and whether they bear the claim out.

python -m wgan_jax.experiments.NAME --workdir=… [--preset=quick|full] [--SETTING=…]
"""
