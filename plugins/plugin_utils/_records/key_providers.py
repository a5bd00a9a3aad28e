# Copyright: (c) 2026, trustedvm.libvirt contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Key providers: register, adopt or make their key material, remove what nobody uses."""
from __future__ import annotations

import dataclasses
from typing import Any, Mapping, Optional, Sequence

from .._core.change import Change
from .._core.errors import ControllerError
from .._key_providers.base import Description, KeyProvider
from .._key_providers.key_ring import key_ring_missing, key_ring_other
from .._key_providers.native import NativeProvider
from .._registry.engine import Session
from .._registry.key_providers import Uses, key_provider_in_use
from .._registry.records import KeyProviderRecord
from .key_reader import OpenProvider
from .runner import Item, given, refuse_duplicates


def key_provider_subject(item: Item) -> dict[str, Any]:
    return given(item, "name")


def provider_view(record: KeyProviderRecord, described: Optional[Description]) -> dict[str, Any]:
    view: dict[str, Any] = {"name": record.name, "type": record.type, "settings": dict(record.settings)}
    if described is not None:
        view.update(
            kek_id=described.kek_id,
            kek_version=described.kek_version,
            kek_versions=list(described.kek_versions),
            **described.details,
        )
    return view


class KeyProviderPlanner:
    """Plans one item at a time on a snapshot that it reads once.

    Args:
        temporary_place: the place that a key ring gets by default, if it may be gone before the registry is.
    """

    def __init__(
        self, session: Session, items: Sequence[Item], open_provider: OpenProvider, temporary_place: Optional[str] = None
    ) -> None:
        refuse_duplicates(items, lambda item: item["name"])
        self._records = session.key_providers.all()
        self._uses = session.key_providers.uses()
        self._open = open_provider
        self._temporary_place = temporary_place

    def plan(self, item: Item) -> Change:
        """Raises:
        ControllerError: see the module's documentation.
        """
        found = self._records.get(item["name"])
        if item["state"] == "absent":
            return self._plan_absent(item, found)
        wanted = KeyProviderRecord(item["name"], item["type"], _settings(item, found), found.kek_id if found else None)
        self._refuse_other_type(found, wanted)
        provider = _native(self._open(wanted))
        uses = self._uses.get(wanted.name, Uses())
        if not provider.exists():
            return self._plan_new_ring(found, wanted, provider, uses)
        return self._plan_existing_ring(found, wanted, provider)

    def _plan_new_ring(
        self, found: Optional[KeyProviderRecord], wanted: KeyProviderRecord, provider: NativeProvider, uses: Uses
    ) -> Change:
        if uses.keys or wanted.kek_id:
            # A new ring in the place of a lost one would hide the loss until a VM fails to start; and
            # another controller may have the ring.
            raise key_ring_missing(provider.path, wanted.name, wanted.kek_id)
        change = Change(
            key_provider_subject({"name": wanted.name}),
            before=provider_view(found, None) if found else {},
            after={**provider_view(wanted, None), "key_ring": provider.path},
            outcome="updated" if found else "created",
            details={**provider_view(wanted, None), "key_ring": provider.path},
        )

        def apply(session: Session) -> None:
            described = provider.describe()
            _register(session, dataclasses.replace(wanted, kek_id=described.kek_id), provider)
            change.details = provider_view(wanted, described)

        change.prepare = lambda: _discard(provider.create())
        change.apply = apply
        if self._temporary_place and not wanted.settings.get("key_ring"):
            change.warnings.append(_temporary(wanted.name, provider.path, self._temporary_place))
        return change

    def _plan_existing_ring(
        self, found: Optional[KeyProviderRecord], wanted: KeyProviderRecord, provider: NativeProvider
    ) -> Change:
        described = provider.describe()
        wanted = dataclasses.replace(wanted, kek_id=described.kek_id)
        unsealed = provider.unsealed()
        view = provider_view(wanted, described)
        before = provider_view(found, described) if found else {}
        after = {**view, "sealed": True} if unsealed else view
        change = Change(key_provider_subject({"name": wanted.name}), before=before, after=after, details=after)
        if found == wanted and not unsealed:
            return change
        change.outcome = "updated" if found else "created"
        change.prepare = (lambda: _discard(provider.seal())) if unsealed else None
        change.apply = lambda session: _register(session, wanted, provider)
        return change

    def _plan_absent(self, item: Item, found: Optional[KeyProviderRecord]) -> Change:
        remove_ring = bool(item["remove_key_ring"])
        uses = self._uses.get(item["name"], Uses())
        if uses != Uses():
            raise key_provider_in_use(item["name"], uses)
        record = found or KeyProviderRecord(item["name"], item["type"], _settings(item, None))
        provider = _native(self._open(record)) if remove_ring else None
        ring = provider is not None and provider.exists()
        if provider is not None:
            provider.refuse_removal()
        details = {**provider_view(record, None), "key_ring_removed": ring}
        subject = key_provider_subject(item)
        if found is None and not ring:
            return Change(subject, details=details)

        def apply(session: Session) -> None:
            # The ring last: if the row cannot be removed, a key may still need it.
            session.key_providers.remove(record.name)
            if provider is not None:
                provider.destroy()

        before = {**provider_view(record, None), **({"key_ring": provider.path} if provider and ring else {})}
        return Change(subject, before=before, outcome="removed", details=details, apply=apply)

    @staticmethod
    def _refuse_other_type(found: Optional[KeyProviderRecord], wanted: KeyProviderRecord) -> None:
        if found is not None and found.type != wanted.type:
            raise ControllerError(
                "key_provider_type_fixed",
                "The key provider %s cannot become one of another type" % wanted.name,
                found=found.type,
                wanted=wanted.type,
                hint="Make a provider of another name",
            )


def _settings(item: Item, found: Optional[KeyProviderRecord]) -> Mapping[str, Any]:
    """What the item sets; without any, what is registered stays. An option that is null is not set."""
    settings = {name: value for name, value in (item.get(item["type"]) or {}).items() if value is not None}
    return found.settings if found is not None and not settings else settings


def _register(session: Session, record: KeyProviderRecord, provider: NativeProvider) -> None:
    """Raises:
    ControllerError: ``key_ring_other``: another controller registered its ring since the look.
    """
    registered = session.key_providers.put(record)
    if registered != record.kek_id:
        # A ring that was made here stays where it is: by now another registry may have keys under it.
        raise key_ring_other(record.name, provider.path, str(record.kek_id), str(registered))


def _temporary(name: str, path: str, place: str) -> str:
    return (
        "The key ring of the key provider %s is a new file below %s (%s), and the registry is not on this machine. If this is an"
        " execution environment (AWX), the file is gone when the job ends, and with it every key. Set native.key_ring or"
        " trustedvm_state_directory to a place that stays, and copy the ring to every controller." % (name, place, path)
    )


def _native(provider: KeyProvider) -> NativeProvider:
    """Making and removing key material is the native provider's alone; the others find it in their key manager."""
    if not isinstance(provider, NativeProvider):
        raise TypeError("%s is no native key provider" % provider.name)
    return provider


def _discard(described: Description) -> None:
    """For callables that return nothing."""
