"""The wall: what the driver and the file system raise, as our own errors."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import apsw

from forebay.errors import EngineRefused, EngineUnavailable, OutcomeUnknown, StorageFull

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def translate(path: str, *, committing: bool = False) -> Iterator[None]:
    """Raise our errors for SQLite's. While ``committing``, a failed write leaves the outcome open."""
    try:
        yield
    except apsw.FullError as error:
        raise StorageFull(
            f"There is no room left for {path}: nothing was stored. Make room, and the work goes on."
        ) from error
    except (apsw.BusyError, apsw.LockedError, apsw.ProtocolError) as error:
        raise EngineUnavailable(
            f"{path} is locked by another program: close what else has it open, and try again."
        ) from error
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise EngineRefused(
            f"{path} is not a sound SQLite database ({error}): restore it from a copy, or move it away."
        ) from error
    except (apsw.ReadOnlyError, apsw.PermissionsError, apsw.AuthError) as error:
        raise EngineRefused(
            f"{path} cannot be written: give this user the right to write the file and its directory."
        ) from error
    except apsw.CantOpenError as error:
        raise EngineUnavailable(
            f"{path} cannot be opened: check that its directory exists and may be written."
        ) from error
    except (apsw.IOError, apsw.NoMemError, apsw.InterruptError) as error:
        if committing:
            raise OutcomeUnknown(
                f"Writing to {path} failed during a commit ({error}): it may or may not be stored."
            ) from error
        raise EngineUnavailable(
            f"Reading or writing {path} failed ({error}): nothing was changed. Check the disk."
        ) from error
    except OSError as error:
        raise EngineUnavailable(
            f"{error.filename or path} cannot be used ({error.strerror}): check that it may be written."
        ) from error
