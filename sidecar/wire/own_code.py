"""Code of its own for each subclass, so that the interpreter can specialise it."""

from types import FunctionType


def own_code(cls: type, *bases: type) -> None:
    """Give `cls` copies of the methods that it has from `bases`.

    The interpreter remembers at each attribute access where it found the attribute,
    for one type at a time (PEP 659). A method that two roles share sees two types in
    turn, finds what it remembers wrong half of the time, and looks everything up.
    """
    for base in bases:
        for name, method in vars(base).items():
            if isinstance(method, FunctionType) and getattr(cls, name) is method:
                copy = FunctionType(
                    method.__code__.replace(), method.__globals__, name, method.__defaults__, method.__closure__
                )
                copy.__kwdefaults__ = method.__kwdefaults__
                copy.__doc__ = method.__doc__
                copy.__qualname__ = method.__qualname__
                copy.__module__ = method.__module__
                copy.__annotations__ = method.__annotations__
                setattr(cls, name, copy)
