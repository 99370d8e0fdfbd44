"""The header names by which proxies and platforms tell a service who calls, from where, or what was really asked for.

A service that stands behind such a proxy believes them. None crosses from a client, unless the route lets it through
by name (`pass_headers`). Names with an underscore need no place here: they are refused.
"""

from typing import Final

# Written by the gateway itself, from what it knows: no route may let a client's own through.
WRITTEN: Final = frozenset(b"x-forwarded-for x-forwarded-proto x-forwarded-host".split())

NAMES: Final = WRITTEN | frozenset(
    # The client's address: RFC 7239, nginx, Apache, WebLogic, and the platforms in front.
    b"forwarded forwarded-for forwarded-for-ip forwarded-host forwarded-proto x-forwarded x-forward-for "
    b"x-real-ip x-real-port real-ip x-client-ip x-client-port client-ip http-client-ip cluster-client-ip "
    b"x-cluster-client-ip true-client-ip x-true-client-ip x-true-ip proxy-client-ip wl-proxy-client-ip "
    b"x-proxyuser-ip x-originating-ip originating-ip x-source-ip x-ip x-custom-ip-authorization x-coming-from "
    b"cf-connecting-ip cf-connecting-ipv6 cf-pseudo-ipv4 cf-ipcountry fastly-client-ip fastly-client "
    b"fly-client-ip do-connecting-ip incap-client-ip x-sucuri-clientip ali-cdn-real-ip cdn-real-ip cdn-src-ip "
    b"x-azure-clientip x-azure-socketip x-nf-client-connection-ip x-cdn-client-ip x-sp-forwarded-ip "
    # Its certificate: RFC 9440, HAProxy, nginx, Azure.
    b"client-cert client-cert-chain ssl-cert x-arr-clientcert x-arr-ssl front-end-https "
    # Host, path and method, other than those of the request line. Proxy would become HTTP_PROXY to a CGI program.
    b"x-host x-http-host-override x-gateway-host host-override x-rewrite-url x-override-url x-http-destinationurl "
    b"x-http-method x-http-method-override x-method-override x-url-scheme x-scheme proxy "
    # Who it is.
    b"user user-id username email groups roles x-user x-userid x-username x-userinfo x-email x-mail x-groups x-group "
    b"x-admin x-is-admin x-role x-roles x-scope x-scopes x-scope-orgid x-permissions x-subject x-sub x-principal "
    b"x-identity x-rh-identity x-client-id x-session-id x-credential x-credential-identifier "
    b"x-credential-username x-anonymous-consumer x-access-token x-id-token x-refresh-token x-jwt x-claims "
    b"x-apigateway-api-userinfo x-endpoint-api-userinfo x-amzn-request-context x-amzn-lambda-context "
    b"eppn persistent-id targeted-id affiliation entitlement".split()
)

PREFIXES: Final = (
    # Addresses, hosts and certificates.
    b"x-forwarded-", b"x-original-", b"x-remote-", b"x-envoy-", b"x-appengine-", b"x-vercel-forwarded-",
    b"x-vercel-proxied-", b"x-vercel-ip-", b"fly-forwarded-", b"cloudfront-viewer-", b"x-client-cert", b"x-client-dn",
    b"x-client-verify", b"x-ssl-", b"ssl-client-", b"sslclient", b"x-tls-", b"x-amzn-mtls-", b"x-amzn-tls-",
    b"l5d-",
    # People: oauth2-proxy, Authelia, authentik, Pomerium, Vouch, Tailscale, Kong, Grafana, Kubernetes, the identity-aware
    # proxies of Google, Amazon, Microsoft and Cloudflare, and Apache's modules.
    b"remote-", b"x-user-", b"x-auth-", b"x-authenticated-", b"x-authentik-", b"x-authelia-", b"x-pomerium-", b"x-vouch-",
    b"x-tailscale-", b"tailscale-", b"x-consumer-", b"x-webauth-", b"impersonate-", b"x-goog-authenticated-",
    b"x-goog-iap-", b"x-amzn-oidc-", b"x-ms-client-principal", b"x-ms-token-", b"cf-access-", b"x-jwt-", b"x-oidc-",
    b"oidc-", b"x-oauth-", b"x-saml-", b"mellon-", b"shib-", b"x-shib-", b"cas-", b"x-cas-", b"iv-", b"sm-", b"oam-",
    b"x-internal-", b"x-caller-",
)  # fmt: skip


def is_asserted(name: bytes) -> bool:
    """Whether a name, in lower case, is one of them."""
    return name in NAMES or name.startswith(PREFIXES)
