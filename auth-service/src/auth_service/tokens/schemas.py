"""The JSON of the OAuth endpoints."""

from pydantic import BaseModel


class TokenResponse(BaseModel):
    """RFC 6749 section 5.1."""

    access_token: str
    token_type: str = "Bearer"  # noqa: S105 - the RFC's word
    expires_in: int
    refresh_token: str | None = None
    scope: str


class ErrorResponse(BaseModel):
    """RFC 6749 section 5.2; `code` is finer, stable, and listed in docs/refusals.md."""

    error: str
    error_description: str
    code: str


class IntrospectionResponse(BaseModel):
    """RFC 7662 section 2.2; a token that is not good is `{"active": false}` and nothing else."""

    active: bool
    token_type: str | None = None
    sub: str | None = None
    client_id: str | None = None
    sid: str | None = None
    scope: str | None = None
    roles: list[str] | None = None
    iss: str | None = None
    aud: str | None = None
    jti: str | None = None
    iat: int | None = None
    exp: int | None = None
    auth_time: int | None = None


class Metadata(BaseModel):
    """RFC 8414 section 2."""

    issuer: str
    token_endpoint: str
    jwks_uri: str
    revocation_endpoint: str
    introspection_endpoint: str
    grant_types_supported: list[str]
    response_types_supported: list[str] = []  # there is no authorization endpoint yet
    token_endpoint_auth_methods_supported: list[str] = ["client_secret_basic", "client_secret_post", "none"]
    revocation_endpoint_auth_methods_supported: list[str] = [
        "client_secret_basic",
        "client_secret_post",
        "none",
    ]
    introspection_endpoint_auth_methods_supported: list[str] = ["client_secret_basic", "client_secret_post"]
