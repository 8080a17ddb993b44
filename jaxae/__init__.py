"""The autoencoder family in functional JAX. Subpackages are imported by name:
`jaxae.losses`, `jaxae.nets`, `jaxae.models`, `jaxae.training`, `jaxae.data`, `jaxae.evaluation`."""

__version__ = "0.1.0"
