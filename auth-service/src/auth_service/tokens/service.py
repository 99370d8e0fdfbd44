"""The grants: sign in, renew, a client's own token; and their end."""

import time
from typing import Any

from auth_service import audit
from auth_service.audit import AuditContext
from auth_service.clients.exceptions import UnauthorizedClient
from auth_service.clients.models import FIRST_PARTY, Client
from auth_service.config import SCOPE
from auth_service.exceptions import InvalidGrant, InvalidScope
from auth_service.revocations.service import Revocations
from auth_service.sessions.exceptions import SessionEnded, SessionForged
from auth_service.sessions.models import Session
from auth_service.sessions.service import Sessions, VerifiedRefreshToken
from auth_service.throttle.devices import Devices, link_in
from auth_service.throttle.exceptions import TooManyAttempts
from auth_service.throttle.service import ACCOUNT, Admission, Throttle
from auth_service.tokens.access import AccessTokens
from auth_service.tokens.exceptions import (
    AccountInactive,
    CredentialsChanged,
    InvalidCredentials,
    InvalidTarget,
    UnsupportedGrantType,
    WrongClient,
)
from auth_service.tokens.models import Grant, SignIn
from auth_service.users.client import UsersClient
from auth_service.users.exceptions import UsersUnavailable
from auth_service.users.models import Refused, User
from service_kit.departures import ClientDisconnect, WhileConnected
from service_kit.response_revocations import headers
from service_kit.tokens import Caller

LONGEST_SCOPE = 1024


class Tokens:
    def __init__(
        self,
        *,
        sessions: Sessions,
        users: UsersClient,
        access: AccessTokens,
        revocations: Revocations,
        throttle: Throttle,
        devices: Devices,
        issuer: str,
        grant_password: bool,
    ) -> None:
        self._sessions = sessions
        self._users = users
        self._access = access
        self._revocations = revocations
        self._throttle = throttle
        self._devices = devices
        self._issuer = issuer
        self._grant_password = grant_password

    async def sign_in(
        self,
        client: Client,
        credentials: SignIn,
        scope: str | None,
        context: AuditContext,
        while_connected: WhileConnected,
    ) -> Grant:
        """The password grant (RFC 6749 section 4.3): for our own client alone, which sees the password."""
        with audit.refusals("sign-in", client=client.id, context=context):
            return await self._signed_in(client, credentials, scope, context, while_connected)

    async def _signed_in(
        self,
        client: Client,
        credentials: SignIn,
        scope: str | None,
        context: AuditContext,
        while_connected: WhileConnected,
    ) -> Grant:
        if not self._grant_password:
            raise UnsupportedGrantType
        if client.id != FIRST_PARTY.id:
            raise UnauthorizedClient
        granted = restrict_scope(client.scopes, scope)
        account = self._devices.account(credentials.email)
        admission = await self._admitted(credentials, account, context)
        user = await self._verified(credentials, admission, context, while_connected)
        await self._throttle.refund(admission, succeeded=True)
        session, refresh_token = await self._sessions.start(
            subject=user.id,
            client_id=client.id,
            scope=granted,
            cv=user.credentials_version,
            now=int(time.time()),
            device=context.device,
            address=context.prefix,
        )
        audit.record(
            "sign-in", "granted", actor=user.id, client=client.id, session=session.id, context=context
        )
        return Grant(
            self._access.for_person(session, user, granted),
            self._access.lifetime,
            granted,
            refresh_token,
            device=self._devices.issue(account, user.id, user.sessions_cv, session.auth_time),
            headers=admission.verdict.headers(),
        )

    async def renew(
        self, client: Client, refresh_token: str, scope: str | None, context: AuditContext
    ) -> Grant:
        """Check, read the person, rotate, sign: in this order no failure on the way ends a session."""
        with audit.refusals("refresh", client=client.id, context=context):
            presented = await self._sessions.find(refresh_token)
        about = _about(presented.session, client, context)
        with audit.refusals("refresh", **about):
            grant = await self._renewed(client, presented, scope)
        audit.record("refresh", "granted", **about)
        return grant

    async def _renewed(self, client: Client, presented: VerifiedRefreshToken, scope: str | None) -> Grant:
        session = presented.session
        if session.client_id != client.id:
            raise WrongClient
        granted = restrict_scope(frozenset(session.scope.split()), scope)
        user = await self._person_of(session)
        session, successor = await self._sessions.rotate(presented, user.credentials_version)
        return Grant(
            self._access.for_person(session, user, granted), self._access.lifetime, granted, successor
        )

    async def issue_to_client(
        self, client: Client, scope: str | None, audience: str | None, context: AuditContext
    ) -> Grant:
        """The client_credentials grant: no person, so no roles and no refresh token."""
        about: dict[str, Any] = {"actor": f"client:{client.id}", "client": client.id, "context": context}
        with audit.refusals("client-token", **about):
            if client.public:
                raise UnauthorizedClient
            if audience is not None and audience != self._issuer and audience not in client.audiences:
                raise InvalidTarget
            granted = restrict_scope(client.scopes, scope)
        audit.record("client-token", "granted", **about)
        return Grant(self._access.for_client(client.id, granted, audience), self._access.lifetime, granted)

    async def revoke_refresh_token(self, client: Client, token: str, context: AuditContext) -> dict[str, str]:
        """Ends the session (RFC 7009); a token that is not, or no longer, ours needs no ending. Returns the header that
        names what has ended."""
        try:
            session = (await self._sessions.find(token)).session
        except SessionForged as forged:
            # The token proves its id; whose it was, nobody knows. What is left to refuse is its access tokens.
            ended = await self._revocations.revoke_session(forged.session_id)
            audit.record(
                "sign-out",
                "ended",
                forged.reason,
                client=client.id,
                session=forged.session_id,
                context=context,
            )
            return headers([ended])
        except SessionEnded as before:
            return await self.revoke_again(before.session_id)
        except InvalidGrant:
            return {}
        return await self._end(client, session.client_id, session.subject, session.id, context)

    async def revoke_access_token(
        self, client: Client, caller: Caller, context: AuditContext
    ) -> dict[str, str]:
        return await self._end(client, caller.client_id, caller.subject, caller.session_id, context)

    async def revoke_again(self, session_id: str) -> dict[str, str]:
        """For a token whose session has ended before: the first answer may have been a 503, or another gateway's."""
        await self._sessions.wait_durable()
        return headers([self._sessions.revocation_of(session_id)])

    async def _admitted(self, credentials: SignIn, account: str, context: AuditContext) -> Admission:
        """Each question to user-service is counted before it is asked."""
        address = context.address
        known = await self._of_known_device(credentials, account, context)
        if known is not None:
            return known
        try:
            return await self._throttle.admit(account, address, None)
        except TooManyAttempts as refusal:
            if refusal.allowance != ACCOUNT or not await self._throttle.admit_question(address):
                raise
            # Strangers can keep an account waiting, but they cannot follow what is mailed to its person.
            link = await self._users.followed_link(credentials.email)
            if link is None or not await self._throttle.forget_failures(account, link):
                raise
        return await self._throttle.admit(account, address, None)

    async def _of_known_device(
        self, credentials: SignIn, account: str, context: AuditContext
    ) -> Admission | None:
        """Unless the password has changed since the device became known."""
        if credentials.device is None:
            return None
        address = context.address
        if token := link_in(credentials.device):
            requested = await self._throttle.admit_question(address)
            link = await self._users.followed_link(credentials.email, token) if requested else None
            return await self._throttle.admit(account, address, f"link:{link}") if link else None
        device = self._devices.read(account, credentials.device, int(time.time()))
        if device is None:
            return None
        admission = await self._throttle.admit(account, address, device.id)
        try:
            owner = await self._users.owner_of_device(device.subject, context.network)
        except UsersUnavailable:
            await self._throttle.refund(admission, succeeded=False)
            raise
        return admission if owner and owner.sessions_cv == device.sessions_cv else None

    async def _verified(
        self,
        credentials: SignIn,
        admission: Admission,
        context: AuditContext,
        while_connected: WhileConnected,
    ) -> User:
        try:
            user = await self._users.verify(
                credentials.email, credentials.password, context.network, while_connected
            )
        except UsersUnavailable:
            await self._throttle.refund(admission, succeeded=False)
            raise
        except ClientDisconnect:
            await self._throttle.forgive(admission)
            raise
        if isinstance(user, Refused):
            raise InvalidCredentials(user.reason, admission.verdict.headers())
        return user

    async def _end(
        self, client: Client, owner: str, subject: str, session_id: str, context: AuditContext
    ) -> dict[str, str]:
        about: dict[str, Any] = {
            "actor": subject,
            "client": client.id,
            "session": session_id,
            "context": context,
        }
        with audit.refusals("sign-out", **about):
            if owner != client.id:
                raise WrongClient
        # A client's token has no stored session, and a person's may have outlived theirs: both are refused all the same.
        ended = [] if subject.startswith("client:") else await self._sessions.end(subject, session_id)
        ended = ended or [await self._revocations.revoke_session(session_id)]
        audit.record("sign-out", "ended", **about)
        return headers(ended)

    async def _person_of(self, session: Session) -> User:
        """The person as they are now; a session older than what last ended their sessions ends here."""
        user = await self._users.current(session.subject)
        if user is not None and user.active and session.credentials_version >= user.sessions_cv:
            return user
        ended = await self._sessions.end(session.subject, session.id)
        refusal = CredentialsChanged if user is not None and user.active else AccountInactive
        raise refusal(headers=headers(ended or [self._sessions.revocation_of(session.id)]))


def _about(session: Session, client: Client, context: AuditContext) -> dict[str, Any]:
    """Whom an event of the audit is about."""
    return {"actor": session.subject, "client": client.id, "session": session.id, "context": context}


def restrict_scope(held: frozenset[str], requested: str | None) -> str:
    """The scope asked for, or all that is held; never more. `*` holds every scope."""
    wanted = frozenset((requested or "").split(" ")) - {""}
    if not wanted:
        return " ".join(sorted(held))
    # Who holds `*` may ask for any scope, but a token that says what is none, or too much, nobody would accept.
    if len(requested or "") > LONGEST_SCOPE or not all(map(SCOPE.fullmatch, wanted)):
        raise InvalidScope("The scope is malformed, or longer than 1024 characters.")
    if "*" not in held and not wanted <= held:
        raise InvalidScope
    return " ".join(sorted(wanted))
