"""One 3D face in, an avatar that can show any expression out.

Three lines to one::

    import omote
    result = omote.avatar("scan.ply")
    result.save("avatar.glb")

The functions here have the names of the commands (`omote avatar`, `omote render`, ...) and live in `omote.api`.
Importing `omote` imports none of the heavy libraries; the first call does.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omote.api import (
        avatar,
        data,
        demo,
        encode,
        evaluate,
        fit,
        generate,
        info,
        pack,
        population,
        read,
        reconstruct,
        render,
        report,
        sample,
        study,
        train,
    )

__version__ = "0.1.0"
__all__ = [
    "__version__",
    "avatar",
    "data",
    "demo",
    "encode",
    "evaluate",
    "fit",
    "generate",
    "info",
    "pack",
    "population",
    "read",
    "reconstruct",
    "render",
    "report",
    "sample",
    "study",
    "train",
]


# Packages that share their name with a function: `omote.avatar` holds modules, `omote.avatar(scan)` makes an avatar.
_CALLABLE_PACKAGES = ("avatar", "data", "render")


def __getattr__(name: str) -> Any:
    if name in _CALLABLE_PACKAGES:
        return import_module(f"omote.{name}")
    if name in __all__:
        from omote import api

        return getattr(api, name)
    raise AttributeError(f"module 'omote' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _CallablePackage(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from omote import api

        return getattr(api, self.__name__.rpartition(".")[2])(*args, **kwargs)


class _Omote(ModuleType):
    # Python binds a subpackage to its parent's attribute whenever it is first imported, from anywhere: that is the
    # moment to make it callable, without importing it any earlier than needed.
    def __setattr__(self, name: str, value: object) -> None:
        if name in _CALLABLE_PACKAGES and type(value) is ModuleType:
            value.__class__ = _CallablePackage
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Omote
