"""The JSON of the OAuth endpoints."""

from pydantic import BaseModel, ConfigDict


class TokenResponse(BaseModel):
    """RFC 6749 section 5.1."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "access_token": "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJpc3MiOi...",
                    "token_type": "Bearer",
                    "expires_in": 300,
                    "refresh_token": "jgLCkhqKWdqYW1qPBoq-Ww.0.0.Y51mCkqBtBjjQSdVZbIoHuVH9JVtRqagxMtm6aiZ3TE",
                    "scope": "*",
                }
            ]
        }
    )

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

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "active": True,
                    "token_type": "Bearer",
                    "sub": "01a22d6b-bb1e-723d-9806-ce32656b2f3a",
                    "client_id": "first-party",
                    "sid": "jgLCkhqKWdqYW1qPBoq-Ww",
                    "scope": "users:read",
                    "roles": ["editor"],
                    "iss": "https://api.example.com",
                    "aud": "https://api.example.com",
                    "jti": "QOEDeS2-say_VlQI",
                    "iat": 1796058365,
                    "exp": 1796058665,
                    "auth_time": 1796058365,
                }
            ]
        }
    )

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

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "issuer": "https://api.example.com",
                    "token_endpoint": "https://api.example.com/auth/token",
                    "jwks_uri": "https://api.example.com/.well-known/jwks.json",
                    "revocation_endpoint": "https://api.example.com/auth/revoke",
                    "introspection_endpoint": "https://api.example.com/auth/introspect",
                    "grant_types_supported": ["password", "refresh_token", "client_credentials"],
                }
            ]
        }
    )

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
