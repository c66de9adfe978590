"""csrc/bindings: what it has is said in the docstrings of the functions."""

from typing import Any

def __getattr__(name: str) -> Any: ...
