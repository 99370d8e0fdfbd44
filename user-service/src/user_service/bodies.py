"""How large a JSON body of ours may be."""

from typing import ClassVar

from service_kit.bodies import JsonRoute


class SmallJsonRoute(JsonRoute):
    """As large as our routes allow at the gateway. Whoever reaches us beside it holds as little: a body is read before a
    token is looked at."""

    most_bytes: ClassVar[int] = 16 * 1024
