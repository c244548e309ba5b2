"""The files of a dataset, in a folder or in .zip archives, found in a fixed order and read within bounds.

Archives are read in place: nothing is extracted, so that no name in one can lead out of a folder, and what a
member declares to be its size is held against a limit first.
"""

import os
import stat
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO

from ikem_fast.errors import InputError, printable


@dataclass(frozen=True)
class SourceFile:
    """One file: `path` itself, or `member` of the archive `path`."""

    path: Path
    member: str | None = None

    @property
    def stem(self) -> str:
        """The file's name without its ending."""
        return PurePosixPath(self.member).stem if self.member else self.path.stem

    @property
    def name(self) -> str:
        """The file's name with its ending."""
        return PurePosixPath(self.member).name if self.member else self.path.name

    @property
    def folder(self) -> str:
        """Where the file lies: a folder, or one of an archive."""
        return str(self.path / PurePosixPath(self.member).parent if self.member else self.path.parent)

    def __str__(self) -> str:
        """For people: what does not print, which names in archives may hold anything of, is escaped."""
        return printable(f"{self.path}/{self.member}" if self.member else self.path, 1 << 12)

    @property
    def size(self) -> int:
        """Bytes, as the file system or the archive has it; 0 for a link that leads nowhere."""
        if self.member:
            return _open_archive(self.path).getinfo(self.member).file_size
        try:
            return os.stat(self.path).st_size
        except OSError:
            return 0

    def read(self, limit: int) -> bytes:
        """Read the file's bytes. Raises ValueError if they cannot be read or are more than `limit`."""
        try:
            return self._read_member(limit) if self.member else self._read_file(limit)
        except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"cannot be read: {error}") from None

    def open(self) -> IO[bytes]:
        """Open the file for reading; going back in a compressed member reads it from its beginning again.

        Raises OSError, BadZipFile, or what else a broken archive leads to.
        """
        if self.member:
            return _open_archive(self.path).open(self._member_info())
        _check_regular(self.path)
        return self.path.open("rb")

    def _read_file(self, limit):
        _check_regular(self.path)
        with self.path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            _check_size(size, limit)
            return file.read(size)

    def _read_member(self, limit):
        info = self._member_info()
        _check_size(info.file_size, limit)
        with _open_archive(self.path).open(info) as stream:
            return stream.read(limit)

    def _member_info(self):
        info = _open_archive(self.path).getinfo(self.member)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"expected a stored or deflated member, found compression {info.compress_type}")
        return info


def _check_size(size, limit):
    if size > limit:
        raise ValueError(f"expected at most {limit} bytes, found {size}")


def _check_regular(path):
    """Opening a pipe waits for a writer, for ever as a rule, and opening a device may do anything."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        found = "a folder" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"
        raise OSError(f"expected a regular file, found {found}")


@lru_cache(maxsize=8)
def _open_archive(path):
    _check_regular(path)
    return zipfile.ZipFile(path)


def find_files(where: str | Path, suffix: str | tuple[str, ...]) -> list[SourceFile]:
    """Find all files under a folder whose names end with `suffix`, in it or in .zip archives in it, by name.

    suffix: one, or several of which any will do, in small letters; files may have it in large ones.
    where: a folder, searched to its depths, linked folders too, or one archive. Hidden files are left out.
    Raises InputError if there is no such place, none of the files, or a folder or archive that cannot be
    opened.
    """
    where = Path(where)
    named = suffix if isinstance(suffix, str) else " or ".join(suffix)
    if where.is_dir():
        paths = list(_walk(where))
    elif where.is_file():
        paths = [where]
    else:
        raise InputError(f"{where}: expected a folder or a .zip with {named} files, found nothing there")
    files = []
    for path in paths:
        name = path.name.lower()
        if name.startswith("."):
            continue
        if name.endswith(".zip") or (name.endswith(".npz") and ".npy" in suffix):
            files += _members(path, suffix)
        elif name.endswith(suffix):
            files.append(SourceFile(path))
    if not files:
        raise InputError(f"{where}: expected {named} files there or in .zip archives there, found none")
    return sorted(files, key=lambda file: (file.stem, file.path, file.member or ""))


def find_together(where: str | Path, names: Iterable[str]) -> dict[str, SourceFile]:
    """Find files of these names that lie in one folder: {name: file} of those that are there.

    where: the folder or one above it, an archive, or one of the files: then those beside it.

    Raises InputError where there are none, or there are some in several folders.
    """
    where, names = Path(where), list(names)
    if where.is_file() and where.suffix.lower() != ".zip":
        if where.name not in names:
            raise InputError(f"{where}: expected {' or '.join(names)}, found a file of another name")
        beside = {name: where.with_name(name) for name in names}
        return {name: SourceFile(path) for name, path in beside.items() if path.is_file()}
    found: dict[str, dict[str, SourceFile]] = {}
    for file in find_files(where, tuple(names)):
        if file.name in names:
            found.setdefault(file.folder, {})[file.name] = file
    if not found:
        raise InputError(f"{where}: expected {' or '.join(names)} there, found none")
    if len(found) > 1:
        raise InputError(
            f"{where}: expected {' and '.join(names)} in one folder, found some in each of "
            f"{', '.join(printable(folder) for folder in sorted(found))}; choose one of these"
        )
    return next(iter(found.values()))


def _walk(where):
    """Every file below a folder. A folder that is reached again, by a link, is not searched again."""

    def refuse(error):
        raise InputError(f"{error.filename}: expected a folder that can be searched, found: {error.strerror}")

    seen = set()
    for folder, folders, names in os.walk(where, onerror=refuse, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()
        yield from (Path(folder, name) for name in names)


def _members(path, suffix):
    try:
        names = _open_archive(path).namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: expected a .zip archive, found: {error}") from None
    return [
        SourceFile(path, name)
        for name in dict.fromkeys(names)
        if name.lower().endswith(suffix) and not PurePosixPath(name).name.startswith(".")
    ]
