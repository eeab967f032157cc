"""What can be done with campaigns: draft, preview, send, control, count, and leave."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol
from uuid import UUID

from fleet_common.approvals import Plan
from fleet_common.digests import digest_of
from fleet_common.errors import Conflict, NotConfigured, NotFound
from fleet_common.idempotency import KeyedCall, once
from fleet_data.campaigns.models import OPEN, Action, Audience, Campaign, Draft, Stats
from fleet_data.campaigns.postman import UnsubscribeLinks
from fleet_data.campaigns.rendering import Rendered, check, render, used
from fleet_data.campaigns.repository import CampaignRepository, CampaignTransaction
from fleet_data.campaigns.tokens import Recipient
from fleet_data.claims import Caller
from fleet_data.crm.filters import Filter, InSegment
from fleet_data.crm.models import Page
from fleet_data.ids import uuid7
from fleet_data.mail.mailers import Mailers

_DRAFT, _SEND, _CONTROL = "campaign_draft", "campaign_send", "campaign_control"
_MOST = 100_000  # contacts one campaign reaches
_ALLOWED: dict[Action, tuple[str, ...]] = {
    "pause": ("sending",),
    "resume": ("paused",),
    "cancel": (*OPEN,),
}


class Contacts(Protocol):
    """What campaigns ask of the CRM: pages of contacts, as the caller may see them."""

    async def search(
        self,
        caller: Caller,
        name: str,
        *,
        where: Filter | None = None,
        fields: Sequence[str] | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Return one page."""

    async def ids(self, caller: Caller, name: str, where: Filter | None, *, most: int) -> list[str]:
        """Return the ids of all that a filter finds, if they are no more than that."""


@dataclass(frozen=True, slots=True)
class Drafted:
    """A draft as it was saved."""

    id: str
    version: int
    segment_size: int
    would_reach: int


@dataclass(frozen=True, slots=True)
class Preview:
    """What a campaign would send, and to how many."""

    campaign: Campaign
    audience: Audience
    letters: Sequence[Rendered]


@dataclass(frozen=True, slots=True)
class Launched:
    """A campaign on its way."""

    id: str
    state: str
    recipients: int
    send_at: str | None = None


@dataclass(frozen=True, slots=True)
class SendCall:
    """One call of campaign_send."""

    caller: Caller
    id: UUID
    max_per_minute: int
    key: str | None = None

    @property
    def keyed(self) -> KeyedCall | None:
        """Return the call that the key names."""
        return _keyed(self.caller, _SEND, self.key, [self.id, self.max_per_minute])


@dataclass(frozen=True, slots=True)
class Campaigns:
    """The campaigns of every tenant; each call says on whose behalf.

    Attributes:
        links: None while the operator has not said where recipients can unsubscribe.
        wake: tells the worker of this process that there is something to do.
    """

    store: CampaignRepository
    contacts: Contacts
    mailers: Mailers
    links: UnsubscribeLinks | None
    wake: Callable[[], None] = field(default=lambda: None)

    async def draft(
        self,
        caller: Caller,
        draft: Draft,
        *,
        template: str | None = None,
        replaces: UUID | None = None,
        key: str | None = None,
    ) -> Drafted:
        """Save a new campaign, or what an existing draft says from now on.

        Args:
            caller: on whose behalf.
            draft: what it says; an empty body takes the letter of `template`.
            template: name to keep the letter under, or to take it from.
            replaces: id of the draft to change.
            key: idempotency key.

        Raises:
            InvalidInput: the letter or the segment cannot be used.
            NotFound: there is no such segment, template or campaign.
            Conflict: the campaign is no draft any more.
        """

        async def change() -> Any:
            return asdict(await self._save(changes, caller, draft, template, replaces))

        keyed = _keyed(caller, _DRAFT, key, [asdict(draft), template, replaces])
        async with self.store.changing(caller, change_set=uuid7()) as changes:
            return Drafted(**await _maybe_once(changes, keyed, change))

    async def preview(self, caller: Caller, id_: UUID, *, sample: int) -> Preview:
        """Return what the campaign would send to some, and how many it would reach.

        Raises:
            NotFound: there is no such campaign.
        """
        async with self.store.changing(caller, change_set=uuid7(), keep=False) as changes:
            campaign = await changes.load(id_)
            ids = await self._members(caller, campaign.segment_id)
            audience = await changes.audience(ids, sorted(used(campaign.letter)))
            people = await changes.sample(ids, sample)
        # A masked value would be read off the letter: whoever may not see it gets the mask there too.
        shown = [{n: "***" if _masked(caller, n) else v for n, v in p.items()} for p in people]
        link = (
            self.links.of(caller.tenant, UUID(int=0)) if self.links else "https://example.invalid/"
        )
        return Preview(
            campaign, audience, [render(campaign.letter, facts, link) for facts in shown]
        )

    async def plan(self, call: SendCall) -> Plan | None:
        """Return what sending would do; None when the call was answered before.

        Raises:
            Conflict: the campaign is no draft, or reaches nobody.
            NotConfigured: mail cannot leave, or nobody could unsubscribe.
        """
        async with self.store.changing(call.caller, change_set=uuid7(), keep=False) as changes:
            if call.keyed and await changes.records.answered(call.keyed) is not None:
                return None
            campaign, ids = await self._sendable(changes, call)
            audience = await changes.audience(ids, sorted(used(campaign.letter)))
            segment = await changes.segment(campaign.segment_id)
        route = await self.mailers.route(call.caller)
        return Plan(
            summary=f"Send the campaign “{campaign.name}” to {audience.reached} contacts",
            details={
                "subject": campaign.letter.subject,
                "from": f"{campaign.from_name} <{self.mailers.sender_address}> by {route}",
                "segment": f"{segment}, {audience.size} contacts",
                **{f"left out, {reason}": str(n) for reason, n in audience.blocked.items()},
                **{f"without {name}": str(n) for name, n in audience.lacking.items()},
                "when": campaign.send_at or "now",
                "at most per minute": str(call.max_per_minute),
            },
            object_version=_version_of(campaign, audience),
        )

    async def send(self, call: SendCall, *, approved: str | None = None) -> Launched:
        """Freeze who is reached and let the worker send.

        Args:
            call: what is asked for.
            approved: version that a person agreed to: this letter, and this many recipients.

        Raises:
            Conflict: letter or audience are not what was approved, or the campaign is no draft.
        """
        route = await self.mailers.route(call.caller)

        async def change() -> Any:
            campaign, ids = await self._sendable(changes, call)
            audience = await changes.audience(ids, sorted(used(campaign.letter)))
            if approved is not None and approved != _version_of(campaign, audience):
                raise Conflict(
                    "the letter or the number of recipients is not what was approved",
                    hint="Look at campaign_preview and ask again",
                )
            await changes.launch(campaign, ids, route=route, max_per_minute=call.max_per_minute)
            launched = Launched(str(campaign.id), "sending", audience.reached, campaign.send_at)
            return asdict(launched)

        async with self.store.changing(call.caller, change_set=uuid7()) as changes:
            launched = Launched(**await _maybe_once(changes, call.keyed, change))
        self.wake()
        return launched

    async def control(
        self, caller: Caller, id_: UUID, action: Action, *, key: str | None = None
    ) -> Stats:
        """Pause, resume or cancel a campaign; doing it twice is doing it once.

        Raises:
            Conflict: its state does not allow that.
        """

        async def change() -> Any:
            campaign = await changes.load(id_)
            after = {"pause": "paused", "resume": "sending", "cancel": "cancelled"}[action]
            if campaign.state != after:
                if campaign.state not in _ALLOWED[action]:
                    raise Conflict(f"a campaign that is {campaign.state} cannot {action}")
                await changes.control(campaign, action)
            return asdict(await changes.stats(id_))

        async with self.store.changing(caller, change_set=uuid7()) as changes:
            keyed = _keyed(caller, _CONTROL, key, [id_, action])
            stats = Stats(**await _maybe_once(changes, keyed, change))
        self.wake()
        return stats

    async def stats(self, caller: Caller, id_: UUID, *, most: int = 20) -> tuple[Stats, list[str]]:
        """Return how far it has come, and contacts whose mail nobody knows the end of."""
        async with self.store.changing(caller, change_set=uuid7(), keep=False) as changes:
            return await changes.stats(id_), await changes.unknown(id_, most)

    async def named(self, caller: Caller, name: str) -> UUID:
        """Return the id of a campaign by its id or its name.

        Raises:
            NotFound: there is none.
        """
        async with self.store.changing(caller, change_set=uuid7(), keep=False) as changes:
            return await changes.named(name)

    async def unsubscribe(self, token: str) -> bool:
        """Suppress the address that the token's mail went to; False when it is gone.

        Raises:
            NotFound: the token is not ours.
        """
        who = self.check_token(token)
        caller = Caller(who.tenant, "unsubscribe")
        async with self.store.changing(caller, change_set=uuid7()) as changes:
            return await changes.unsubscribe(who.id)

    def check_token(self, token: str) -> Recipient:
        """Return whose link this is.

        Raises:
            NotFound: the token is not ours.
        """
        if self.links is None:
            raise NotFound("unsubscribe link", "of this address")
        return self.links.tokens.read(token)

    async def _save(
        self,
        changes: CampaignTransaction,
        caller: Caller,
        draft: Draft,
        template: str | None,
        replaces: UUID | None,
    ) -> Drafted:
        letter = draft.letter
        if template is not None and not letter.body:
            letter = await changes.template(template)
        check(letter)
        if template is not None:
            await changes.save_template(template, letter)
        draft = Draft(draft.name, draft.segment_id, draft.from_name, letter, draft.send_at)
        ids = await self._members(caller, draft.segment_id)
        id_ = replaces or await changes.insert(draft)
        if replaces is not None:
            _require_draft(await changes.load(replaces))
            await changes.update(replaces, draft)
        audience = await changes.audience(ids, [])
        saved = await changes.load(id_)
        return Drafted(str(id_), saved.version, audience.size, audience.reached)

    async def _sendable(
        self, changes: CampaignTransaction, call: SendCall
    ) -> tuple[Campaign, list[str]]:
        if self.links is None:
            raise NotConfigured(
                "recipients could not unsubscribe",
                hint="The operator sets FLEET_DATA_UNSUBSCRIBE_URL",
            )
        campaign = await changes.load(call.id)
        _require_draft(campaign)
        ids = await self._members(call.caller, campaign.segment_id)
        if (await changes.audience(ids, [])).reached == 0:
            raise Conflict("this campaign would reach nobody", hint="See campaign_preview")
        return campaign, ids

    async def _members(self, caller: Caller, segment_id: UUID) -> list[str]:
        """Return the ids of the contacts in a segment, no more than a campaign may reach."""
        where = InSegment(segment=segment_id)
        return await self.contacts.ids(caller, "contact", where, most=_MOST)


def _version_of(campaign: Campaign, audience: Audience) -> str:
    """Return what an approval is for: the letter to the last character, its sender, and how many it reaches."""
    letter = campaign.letter
    told = [letter.subject, letter.body, letter.html, campaign.from_name, campaign.send_at]
    return f"{digest_of(told)[:16]}:{audience.reached}:{campaign.version}"


def _require_draft(campaign: Campaign) -> None:
    if campaign.state != "draft":
        raise Conflict(f"the campaign is {campaign.state}, no draft any more")


def _masked(caller: Caller, variable: str) -> bool:
    name = {"company": "name", "industry": "industry"}.get(variable)
    of = "contact" if name is None else "company"
    name = name or variable
    return name in caller.masks or f"{of}.{name}" in caller.masks


def _keyed(caller: Caller, tool: str, key: str | None, told: Any) -> KeyedCall | None:
    return KeyedCall.of(caller.tenant, caller.subject, tool, key, told) if key else None


async def _maybe_once(
    changes: CampaignTransaction, keyed: KeyedCall | None, change: Callable[[], Awaitable[Any]]
) -> Any:
    return await once(changes.records, keyed, change) if keyed else await change()
