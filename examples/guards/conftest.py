"""`jit` and `jit_clock` for the tests here."""

from jitaccess.testing import jit, jit_clock

__all__ = ["jit", "jit_clock"]
