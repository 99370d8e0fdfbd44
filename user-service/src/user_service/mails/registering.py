"""What registering and erasing a person mean for mails; called within those transactions."""

from sqlalchemy.ext.asyncio import AsyncConnection

from user_service.mails import repository
from user_service.mails.models import LinkKind, WaitingMail
from user_service.users.exceptions import EmailTaken
from user_service.users.models import User


async def greet(connection: AsyncConnection, user: User) -> None:
    """Have the address of a person who was just added confirmed, or raise EmailTaken."""
    await refuse_reserved(connection, user)
    await repository.add_mail(connection, WaitingMail(LinkKind.VERIFY, user.id), user.created_at)


async def refuse_reserved(connection: AsyncConnection, user: User) -> None:
    """Raise EmailTaken if somebody else may still take this address back.

    Asked once the unique key has let `user` in: a change that freed the address has then been committed.
    """
    if await repository.reserved(connection, user.email_key, user.updated_at, besides=user.id):
        raise EmailTaken


async def forget_person(connection: AsyncConnection, user: User) -> None:
    await repository.forget_person(connection, user.id, user.email_key)
