# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables, as the newest schema version has them.

Nothing in them is a plaintext key. Every change of them is one more schema version (``migrations.py``).
"""
from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from .sql import sa

SCHEMA_VERSION = 2
VERSION_TABLE = "trustedvm_schema"


@dataclass(frozen=True)
class Tables:
    metadata: Any
    version: Any
    key_providers: Any
    vms: Any
    vtpms: Any
    nvram_volumes: Any
    resource_keys: Any
    operations: Any


def _time(name: str, nullable: bool = False) -> Any:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _vm_reference() -> Any:
    reference = sa.ForeignKey("vms.uuid", ondelete="CASCADE")
    return sa.Column("vm_uuid", sa.String(36), reference, primary_key=True)


def _vms(metadata: Any) -> Any:
    return sa.Table(
        "vms",
        metadata,
        sa.Column("uuid", sa.String(36), primary_key=True),
        sa.Column("name", sa.String(255), nullable=False, index=True),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        # Counts the changes of host and state, nothing else: whoever read (host, generation)
        # knows later whether the VM was moved, stopped or started since.
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("key_provider", sa.String(255), sa.ForeignKey("key_providers.name", ondelete="RESTRICT"), index=True),
        _time("created_at"),
        _time("updated_at"),
        sa.Index("ix_vms_host_state", "host", "state"),
        # As libvirt has it: a host's domains have different names.
        sa.UniqueConstraint("host", "name", name="uq_vms_host_name"),
    )


def _vtpms(metadata: Any) -> Any:
    return sa.Table(
        "vtpms",
        metadata,
        _vm_reference(),
        # Two VMs never share a secret: one's key must not open the other's TPM.
        sa.Column("secret_uuid", sa.String(36), nullable=False, unique=True),
        sa.Column("model", sa.String(32), nullable=False),
        sa.Column("version", sa.String(8), nullable=False),
        sa.Column("encrypted", sa.Boolean, nullable=False),
        sa.Column("state_exists", sa.Boolean, nullable=False),
    )


def _nvram_volumes(metadata: Any) -> Any:
    return sa.Table(
        "nvram_volumes",
        metadata,
        _vm_reference(),
        sa.Column("storage", sa.String(255), nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger),
        sa.Column("format", sa.String(16), nullable=False),
    )


def _resource_keys(metadata: Any) -> Any:
    return sa.Table(
        "resource_keys",
        metadata,
        sa.Column("resource_type", sa.String(32), primary_key=True),
        sa.Column("resource_uuid", sa.String(36), primary_key=True),
        sa.Column("key_version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("provider", sa.String(255), sa.ForeignKey("key_providers.name", ondelete="RESTRICT"), nullable=False),
        sa.Column("kek_id", sa.String(255), nullable=False),
        sa.Column("kek_version", sa.Integer, nullable=False),
        sa.Column("algorithm", sa.String(64), nullable=False),
        sa.Column("wrapped", sa.LargeBinary, nullable=False),
        sa.Column("fingerprint", sa.String(80), nullable=False),
        sa.Column("created_by", sa.String(255), index=True),
        _time("created_at"),
        sa.Index("ix_resource_keys_kek", "provider", "kek_id", "kek_version"),
    )


def _operations(metadata: Any) -> Any:
    ended_at = _time("ended_at", nullable=True)
    return sa.Table(
        "operations",
        metadata,
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("kind", sa.String(32), nullable=False),
        # No reference to the VM's record: the journal outlives it, and may begin before it.
        sa.Column("vm_uuid", sa.String(36), nullable=False),
        sa.Column("vm_name", sa.String(255), nullable=False),
        sa.Column("run", sa.String(64), nullable=False),
        sa.Column("holder_user", sa.String(255), nullable=False),
        sa.Column("holder_host", sa.String(255), nullable=False),
        sa.Column("holder_pid", sa.BigInteger, nullable=False),
        sa.Column("holder_machine", sa.String(255), nullable=False),
        sa.Column("holder_started", sa.BigInteger, nullable=False),
        sa.Column("phase", sa.String(32), nullable=False),
        sa.Column("facts", sa.JSON, nullable=False),
        _time("started_at"),
        _time("lease_until"),
        ended_at,
        sa.Column("outcome", sa.String(32)),
        sa.Column("message", sa.Text),
        # Two runs never work on one VM.
        sa.Index("uq_operations_open", "vm_uuid", unique=True, sqlite_where=ended_at.is_(None), postgresql_where=ended_at.is_(None)),
        sa.Index("ix_operations_ended", "ended_at"),
    )


@functools.cache
def tables() -> Tables:
    metadata = sa.MetaData()
    version = sa.Table(
        VERSION_TABLE,
        metadata,
        sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
        sa.Column("version", sa.Integer, nullable=False),
    )
    key_providers = sa.Table(
        "key_providers",
        metadata,
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("type", sa.String(32), nullable=False),
        sa.Column("settings", sa.JSON, nullable=False),
        # Which key material the name stands for: every controller checks its own copy against it.
        sa.Column("kek_id", sa.String(255)),
        _time("created_at"),
        _time("updated_at"),
    )
    return Tables(
        metadata,
        version,
        key_providers,
        _vms(metadata),
        _vtpms(metadata),
        _nvram_volumes(metadata),
        _resource_keys(metadata),
        _operations(metadata),
    )
