"""Pointers that stand in the place of files which lie in a large-file store."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_STORES: Final = {
    b"version https://git-lfs.github.com/spec/": "Git LFS",
    b"version https://hawser.github.com/spec/": "Git LFS",
    b"version http://git-media.io/": "Git LFS",
    b"# xet version": "Git Xet",
    b"/annex/objects/": "git-annex",
    b"../.git/annex/objects/": "git-annex",
    b".git/annex/objects/": "git-annex",
}
_MAX_BYTES: Final = 2048


def pointer_store(path: Path) -> str:
    """Return the store whose pointer a file is, empty for a file that is none.

    Raises:
        OSError: it cannot be read.
    """
    if path.stat().st_size > _MAX_BYTES:
        return ""
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    found = next((store for mark, store in _STORES.items() if content.startswith(mark)), "")
    return found or ("git, which stored a link as text," if _names_a_file(content, path.parent) else "")


def _names_a_file(content: bytes, folder: Path) -> bool:
    """Return whether a file is nothing but the path of another: so git stores links, and leaves them where it makes none."""
    try:
        text = content.decode()
        return ("/" in text or "." in text) and text.isprintable() and (folder / text).exists()
    except (UnicodeDecodeError, OSError, ValueError):
        return False
