"""Compiled modules: ``hashcore`` and ``ggufcheck`` (Rust, PyO3), ``frames``, ``planning`` and ``scoring`` (Cython).

Nothing is imported here, so that a command which needs none of them does not pay for loading them. There is no
pure-Python fallback: a missing module means a broken installation, and the ``ImportError`` says so.
"""
