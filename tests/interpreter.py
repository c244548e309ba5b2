"""What lets Triton's interpreter take half the time, to be imported ahead of the first kernel."""

import contextlib
import dataclasses
import functools

from triton.runtime import interpreter

builder = interpreter.interpreter_builder
# Those of the kernel itself are there for the time of its launch, those of other modules for good.
put_operations_in_place = functools.cache(interpreter._patch_lang)


def call(function, *args, **kwargs):
    """Call a function from a kernel; Triton's own looks through all of `triton.language` each time."""
    put_operations_in_place(function.fn)
    return function.rewrite()(*args, **kwargs)


@contextlib.contextmanager
def overflow_checked():
    """Compute each sum and product of integers a second time, in 64 bits, as is done by default."""
    unchecked, builder.options = builder.options, dataclasses.replace(builder.options, sanitize_overflow=True)
    try:
        yield
    finally:
        builder.options = unchecked


interpreter.InterpretedFunction.__call__ = call
builder.options = dataclasses.replace(builder.options, sanitize_overflow=False)
