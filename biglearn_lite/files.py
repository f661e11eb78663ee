"""Files that are whole or absent: atomic writing, and downloads that are verified."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Sequence
from pathlib import Path

CHUNK = 1 << 16


class DownloadError(OSError):
    """No address gave the file that was asked for."""


def make_folder(path: Path) -> None:
    """Make a folder, and see that files can be written to it.

    Raises:
        ValueError: if not; says why.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise ValueError(
            f"Files cannot be written to {path}: {error.strerror}; name another folder."
        ) from error


def write_atomically(path: str | Path, content: str | bytes) -> Path:
    """Write `content` under a temporary name beside `path`, then move it there.

    Readers see the old file or the new one, never a mixture; if writing fails,
    the old file stays and the temporary one is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)  # mkstemp gives 0600: others may read our files
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def unpack(data: bytes, name: str) -> bytes:
    """The content of a file: unpacked if its name ends in `.gz`.

    Raises:
        ValueError: if the archive is damaged.
    """
    if not name.endswith(".gz"):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{name} is damaged ({error}).") from error


def download(
    urls: Sequence[str], path: str | Path, sha256: str, timeout: float = 30.0
) -> Path:
    """Fetch a file from the first address that gives it whole, and verify it.

    The SHA-256 is of the content, after unpacking a `.gz`: packing the same bytes
    again gives another archive. Nothing is written unless it agrees.

    Args:
        urls: addresses, tried in order.
        path: where to put the file; its folder is made.
        sha256: of the (unpacked) content.
        timeout: seconds without an answer.

    Raises:
        DownloadError: if no address works; says for each one why.
    """
    path = Path(path)
    reasons = []
    for url in urls:
        try:
            data = _get(url, timeout)
            found = hashlib.sha256(unpack(data, path.name)).hexdigest()
        except (OSError, http.client.HTTPException, ValueError) as error:
            reasons.append(f"{url}: {error}")
            continue
        if found == sha256:
            return write_atomically(path, data)
        reasons.append(f"{url}: SHA-256 is {found[:12]}..., not {sha256[:12]}...")
    raise DownloadError(f"{path.name} could not be fetched ({'; '.join(reasons)}).")


def _get(url: str, timeout: float) -> bytes:
    """The bytes behind an address, with a progress bar if it takes long."""
    from tqdm.auto import tqdm

    chunks = []
    with urllib.request.urlopen(url, timeout=timeout) as response:
        size = int(response.headers.get("Content-Length") or 0)
        with tqdm(total=size or None, unit="B", unit_scale=True, delay=2) as bar:
            while chunk := response.read(CHUNK):
                chunks.append(chunk)
                bar.update(len(chunk))
    data = b"".join(chunks)
    if size and len(data) != size:
        raise DownloadError(f"only {len(data)} of {size} bytes arrived")
    return data
