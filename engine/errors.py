"""The exception classes of the engine, each a subclass of what PyTorch raises in the same place.

Each also extends the class that a NumPy user would catch. IndexError, NotImplementedError and plain ValueError
are raised as they are and have no class here. Every file of `engine` may import this one; it imports nothing.
"""


class ShapeError(RuntimeError, ValueError):
    """Sizes that do not fit each other; stands for PyTorch's RuntimeError (and NumPy's ValueError)."""


class DTypeError(RuntimeError, TypeError):
    """A dtype that an operation cannot take; stands for PyTorch's RuntimeError (TypeError for arguments)."""


class DeviceError(RuntimeError, AssertionError):
    """A device that is missing or mixed; stands for PyTorch's RuntimeError (AssertionError for builds without CUDA)."""


class GradError(RuntimeError):
    """Autograd used where it cannot answer; stands for PyTorch's RuntimeError."""


class NumberError(RuntimeError, ValueError):
    """A number that its dtype cannot hold; stands for PyTorch's RuntimeError (ValueError where it unpacks Python ints)."""


class LinAlgError(RuntimeError, ValueError):
    """A matrix that cannot be inverted, solved or factored; stands for PyTorch's (and NumPy's) LinAlgError."""


class FormatError(RuntimeError, ValueError):
    """A file that is not what it should be: truncated, damaged, of another format; PyTorch raises RuntimeError there."""
