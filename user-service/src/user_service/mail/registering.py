"""What registering and erasing a person mean for mails; called within those transactions."""

from sqlalchemy.ext.asyncio import AsyncConnection

from user_service.mail import links, repository
from user_service.mail.models import LinkKind, WaitingMail
from user_service.users import address_changes
from user_service.users.models import User


async def greet(connection: AsyncConnection, user: User) -> None:
    """Have the address of a person who was just added confirmed, or raise EmailTaken."""
    await address_changes.refuse_reserved(connection, user)
    await repository.add_mail(connection, WaitingMail(LinkKind.VERIFY, user.id), user.created_at)


async def forget_person(connection: AsyncConnection, user: User) -> None:
    await repository.forget_person(connection, user.id, user.email_key)
    await links.forget_person(connection, user.id, user.email_key)
    await address_changes.forget_person(connection, user.id)
