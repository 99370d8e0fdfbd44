"""The OAuth endpoints: issue, refresh, revoke, introspect, verify."""
