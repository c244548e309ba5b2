"""The public API is annotated in full: every parameter and every result (py.typed tells type checkers)."""

import importlib
import inspect

import pytest

# What is public is what these export.
ROOMS = (
    "ikem_fast.augment",
    "ikem_fast.data",
    "ikem_fast.nn",
    "ikem_fast.ops",
    "ikem_fast.evaluate",
    "ikem_fast.train",
)
MODULES = ("ikem_fast.errors", "ikem_fast.files", "ikem_fast.settings", "ikem_fast.skeleton")


def public_callables():
    for name in (*ROOMS, *MODULES):
        module = importlib.import_module(name)
        exported = getattr(module, "__all__", [n for n in vars(module) if not n.startswith("_")])
        for attribute in exported:
            value = getattr(module, attribute)
            if not getattr(value, "__module__", "").startswith("ikem_fast"):
                continue
            if inspect.isfunction(value):
                yield f"{name}.{attribute}", value
            elif inspect.isclass(value):
                for method, function in vars(value).items():
                    function = getattr(function, "fget", None) or getattr(function, "__func__", function)
                    public = not method.startswith("_") or method in ("__init__", "__getitem__", "__len__")
                    if (
                        inspect.isfunction(function)
                        and public
                        and function.__module__.startswith("ikem_fast")
                    ):
                        yield f"{name}.{attribute}.{method}", function


PUBLIC = dict(public_callables())


@pytest.mark.parametrize("name", PUBLIC)
def test_is_annotated_in_full(name):
    signature = inspect.signature(PUBLIC[name])
    parameters = [p for p in signature.parameters.values() if p.name not in ("self", "cls")]
    bare = [p.name for p in parameters if p.annotation is p.empty]
    assert not bare, f"without a type: {', '.join(bare)}"
    is_init = name.endswith(".__init__")
    assert is_init or signature.return_annotation is not signature.empty, "without a type of its result"


@pytest.mark.parametrize("name", PUBLIC)
def test_says_what_it_does(name):
    if name.endswith("__"):
        return  # said by its class
    assert inspect.getdoc(PUBLIC[name]), "without a docstring"
