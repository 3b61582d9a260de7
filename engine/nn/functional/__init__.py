"""Functions of neural networks without state: what modules call, and what users call directly, under PyTorch's names.

One file a family (`linear`, `activation`, `loss`, ...), each with its `__all__`; this file publishes them.
"""
from .activation import *  # noqa: F403
from .attention import *  # noqa: F403
from .conv import *  # noqa: F403
from .distance import *  # noqa: F403
from .dropout import *  # noqa: F403
from .embedding import *  # noqa: F403
from .linear import *  # noqa: F403
from .loss import *  # noqa: F403
from .margin_loss import *  # noqa: F403
from .normalization import *  # noqa: F403
from .padding import *  # noqa: F403
from .pooling import *  # noqa: F403
from .vision import *  # noqa: F403
