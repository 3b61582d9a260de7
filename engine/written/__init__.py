"""Kernels that users write: `engine.elementwise`, `engine.reduction` and `engine.stencil`, one file each."""
