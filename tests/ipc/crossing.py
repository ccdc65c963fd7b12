"""The way of an exception over the pipe, in one process."""

from __future__ import annotations

import msgpack

from bgsuper.ipc.remote import Allowed, RemoteException, describe

from . import exceptions

MODULE = exceptions.__name__
#: As a host would list them: by name. `SubPlain` is left out on purpose.
LISTED = Allowed(
    f"{MODULE}:{name}"
    for name, value in vars(exceptions).items()
    if isinstance(value, type) and issubclass(value, BaseException) and value is not exceptions.SubPlain
)
#: bgsuper's own and the built-in ones only.
NOTHING_LISTED = Allowed()


def raised(error: BaseException) -> BaseException:
    """`error`, with a traceback."""
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001 - SystemExit is one of the cases
        return caught


def across(error: BaseException, allowed: Allowed = LISTED) -> Exception:
    """What the host raises when the worker met `error`; all that crosses goes through msgpack, as on the pipe."""
    fields = msgpack.unpackb(msgpack.packb(describe(error, allowed=allowed), strict_types=True))
    return RemoteException.decode(fields, allowed=allowed).rebuild()


def with_notes(error: BaseException, *notes: str) -> BaseException:
    for note in notes:
        error.add_note(note)
    return error
