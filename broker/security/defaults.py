"""What daemons and proxies show, believe and ask where their maker does not say: what the configuration says."""

from __future__ import annotations

from broker.config import config
from broker.security.credentials import Acceptor, Credentials
from broker.security.policy import Policy
from broker.security.tokens import SameUser, Tokens

__all__ = ["default_credentials", "default_policy"]


def default_credentials() -> Credentials | None:
    """Those of the configuration; None if it has none. Raises InvalidCredentials."""
    files = config.tls_cert, config.tls_key, config.tls_ca
    tokens, token_file, same_user = config.tokens, config.token_file, config.same_user
    if files == (None, None, None) and tokens is token_file is None and not same_user:
        return None
    user = SameUser() if same_user else None
    accept: list[Acceptor] = [] if tokens is None else [Tokens(tokens)]
    if user is not None:
        accept.append(user)
    return Credentials(*files, token=user if token_file is None else None, token_file=token_file, accept=accept)


def default_policy() -> Policy | None:
    """That of the configuration; None if it has none. Raises InvalidPolicy."""
    return None if config.policy is None else Policy(config.policy)
