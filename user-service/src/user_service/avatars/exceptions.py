"""What can be wrong with a picture, and with asking for one."""

from http import HTTPStatus

from service_kit.problems import Problem


class AvatarTooLarge(Problem):
    status, code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "avatar_too_large"
    title = "The picture is larger than the limit"
    detail = "Send a smaller file."


class AvatarUnsupported(Problem):
    status, code = HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "avatar_unsupported"
    title = "The file is not a readable picture"
    detail = "Send a JPEG, PNG, WebP or GIF. Its content decides, not its name or content type."


class AvatarTooManyPixels(Problem):
    status, code = HTTPStatus.UNPROCESSABLE_ENTITY, "avatar_too_many_pixels"
    title = "The picture has more pixels than can be decoded here"
    detail = "Scale it down before you send it."


class UploadStalled(Problem):
    status, code = HTTPStatus.REQUEST_TIMEOUT, "upload_stalled"
    title = "The upload stalled, or took too long in all"
    detail = "Send the picture again, over a better connection."


class UploadsAtOnce(Problem):
    status, code = HTTPStatus.TOO_MANY_REQUESTS, "uploads_at_once"
    title = "Too many uploads of this person are under way"
    detail = "Wait until one has ended, then send the next."


class AvatarsBusy(Problem):
    status, code = HTTPStatus.SERVICE_UNAVAILABLE, "avatars_busy"
    title = "Too many pictures are being processed"
    detail = "Wait as long as `Retry-After` says."


class AvatarsUnavailable(Problem):
    status, code = HTTPStatus.SERVICE_UNAVAILABLE, "avatars_unavailable"
    title = "Pictures cannot be read or stored now"
    detail = "Wait as long as `Retry-After` says."


class AvatarNotFound(Problem):
    status, code = HTTPStatus.NOT_FOUND, "avatar_not_found"
    title = "This person has no picture"
    detail = "`PUT /v1/users/me/avatar` sets one."
