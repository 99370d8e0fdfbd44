"""Changing one's password (public), and checking credentials for auth-service (internal)."""

from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response, status

from service_kit.departures import while_connected
from service_kit.dependencies import get_service_caller
from service_kit.document import refusals
from user_service.bodies import SmallJsonRoute
from user_service.credentials.dependencies import CredentialChecks
from user_service.credentials.exceptions import PasswordChangedMeanwhile, WrongPassword
from user_service.credentials.schemas import Credentials, NotVerified, PasswordChange, Verified
from user_service.credentials.service import Refused
from user_service.passwords.exceptions import HashingBusy, PasswordRefused
from user_service.users.allowance import TooManyChanges
from user_service.users.dependencies import By, MyId, Users, owns_account, revoked
from user_service.users.exceptions import NotAPerson, UserNotFound
from user_service.users.schemas import CurrentState

router = APIRouter(prefix="/v1/users", tags=["users"], route_class=SmallJsonRoute)
internal_router = APIRouter(prefix="/internal/v1", route_class=SmallJsonRoute)


@router.post(
    "/me/password",
    status_code=status.HTTP_204_NO_CONTENT,
    dependencies=[owns_account],
    responses=refusals(
        NotAPerson,
        UserNotFound,
        WrongPassword,
        PasswordChangedMeanwhile,
        PasswordRefused,
        HashingBusy,
        TooManyChanges,
    ),
)
async def change_password(
    me: MyId,
    change: PasswordChange,
    credentials: CredentialChecks,
    context: By,
    request: Request,
    response: Response,
) -> None:
    """Change the password. Every session ends, this one too: sign in again with the new one."""
    user = await credentials.change(me, change.current_password, change.new_password, context)
    response.headers.update(revoked(request, user))


@internal_router.post("/credentials/verify", dependencies=[Depends(get_service_caller("credentials:verify"))])
async def verify(
    sent: Credentials, credentials: CredentialChecks, request: Request, *, caller_waits: bool = False
) -> Verified | NotVerified:
    """Whether the password is right. Always 200: a wrong password is an answer, not an error."""
    # Callers give up while they queue for a hash; those behind them must not wait for what nobody wants any more.
    verdict = await while_connected(
        request, credentials.verify(sent.email, sent.password, caller_waits=caller_waits)
    )
    if isinstance(verdict, Refused):
        return NotVerified(reason=verdict.reason, wait=verdict.wait)
    return Verified(user=CurrentState.of(verdict))


@internal_router.get("/users/{id}", dependencies=[Depends(get_service_caller("users:read"))])
async def current_state(id: UUID, users: Users) -> CurrentState:
    """The person's present state, deleted or not; read at each refresh."""
    return CurrentState.of(await users.find(id))
