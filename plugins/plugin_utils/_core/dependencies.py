# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Optional libraries: what is missing is named when it is needed, and nothing else stops working (requirement M8)."""
from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from .errors import ControllerError


@dataclass(frozen=True)
class Dependency:
    """A Python library that a part of the collection needs on the controller.

    Attributes:
        module: name to import.
        requirement: what to give to pip.
        needed_by: the part that does not work without it, for the message.
    """

    module: str
    requirement: str
    needed_by: str

    def load(self) -> Any:
        """The imported module.

        Raises:
            ControllerError: ``missing_dependency``, naming what to install.
        """
        try:
            return importlib.import_module(self.module)
        except ImportError as error:
            raise ControllerError(
                "missing_dependency",
                "%s needs the Python library %s on the controller" % (self.needed_by, self.requirement),
                found=str(error),
                hint="Install it for the Python that runs Ansible, as with: pip install '%s'" % self.requirement,
                details={"missing_library": self.requirement},
            ) from None


SQLALCHEMY = Dependency("sqlalchemy", "SQLAlchemy>=2.0,<3", "The registry")
PSYCOPG = Dependency("psycopg", "psycopg[binary]>=3.1", "A registry in PostgreSQL")
