"""Ten published systems of machine learning as one pure-functional JAX library.

Each system is a room (`jaxlab.optim`, `jaxlab.icl`, ...) of pure functions and one `experiment`
that measures its paper's claims; the rooms import nothing of each other.
"""

__version__ = "0.1.0"
