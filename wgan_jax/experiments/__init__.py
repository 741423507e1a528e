"""The figures of the papers as commands. Each prints its numbers and whether they support the paper's claim.

python -m wgan_jax.experiments.NAME --workdir=… [--preset=quick|full] [--SETTING=…]
"""
