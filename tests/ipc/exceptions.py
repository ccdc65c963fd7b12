"""The exceptions of the crash matrix: each goes wrong in its own way when it is to cross the pipe."""

from __future__ import annotations

from typing import NoReturn


class Plain(Exception):
    """Crosses as itself, attributes too."""


class SubPlain(Plain):
    """Not listed where `Plain` is."""


class TwoArguments(Exception):
    """Dumps well, and fails to load: its `args` do not fit its `__init__`."""

    def __init__(self, code: int, place: str) -> None:
        super().__init__(f"{code} at {place}")


class Garbled(Exception):
    """Dumps and loads, but with another text."""

    def __init__(self, code: object) -> None:
        super().__init__(f"code {code}")


class DumpsFails(Exception):
    def __reduce__(self) -> NoReturn:
        raise ValueError("no pickle of this")


class DumpsExits(Exception):
    def __reduce__(self) -> NoReturn:
        raise SystemExit(3)


class LoadsFails(Exception):
    def __setstate__(self, state: object) -> NoReturn:
        raise ValueError("no loading of this")


class LoadsExits(Exception):
    def __setstate__(self, state: object) -> NoReturn:
        raise SystemExit(3)


class Impostor(Exception):
    """Pickles as another class."""

    def __reduce__(self) -> tuple[type[Exception], tuple[str]]:
        return (Plain, (str(self),))


class Unprintable(Exception):
    def __str__(self) -> NoReturn:
        raise RuntimeError("no text of this")


class ExitsWhenPrinted(Exception):
    def __str__(self) -> NoReturn:
        raise SystemExit(3)


class NoString(Exception):
    def __str__(self) -> str:
        return 7  # type: ignore[return-value]  # the fault


class Hostile(Exception):
    """Every attribute that anybody may look at raises."""

    def __getattribute__(self, name: str) -> NoReturn:
        raise SystemExit(name)


class Falsy(Exception):
    def __bool__(self) -> bool:
        return False


class NamelessMeta(type):
    def __getattribute__(cls, name: str) -> object:
        if name in ("__qualname__", "__module__"):
            raise RuntimeError("no name")
        return type.__getattribute__(cls, name)


class Nameless(Exception, metaclass=NamelessMeta):
    pass


class Refuses(Exception):
    """Takes no notes and no cause."""

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(name)


NOT_AN_EXCEPTION = print


class ABaseException(BaseException):
    pass
