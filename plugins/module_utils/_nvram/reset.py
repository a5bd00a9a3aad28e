# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""Putting an NVRAM volume back to its template so that it can be taken back until the step after it has succeeded."""

from typing import Callable, Optional

from .backends.directory import DirectoryBackend
from .volume import Template


class VolumeReset:
    """The steps of one reset; remembers what it did for :meth:`undo`."""

    def __init__(self, backend: DirectoryBackend, path: str, template: Template) -> None:
        self._backend = backend
        self._path = path
        self._template = template
        self._back: Optional[Callable[[], None]] = None

    def create(self) -> None:
        """Make a volume that is not there."""
        self._backend.create(self._path, self._template.read())
        self._back = lambda: self._backend.remove(self._path)

    def swap(self) -> None:
        """Replace the content; what was there is kept in a copy."""
        copy = self._backend.replace(self._path, self._template.read(), keep_copy=True)
        if copy is not None:
            self._back = lambda: self._backend.restore(copy, self._path)

    def undo(self) -> None:
        """Put back what was there."""
        if self._back is not None:
            self._back()
