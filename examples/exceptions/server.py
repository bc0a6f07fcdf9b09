"""A bank counter that raises exceptions of several kinds."""

from __future__ import annotations

import broker


@broker.register_type(name="example.InsufficientFunds")
class InsufficientFunds(Exception):
    """There is less in the account than was asked for. The client has this class too."""

    def __init__(self, missing: int) -> None:
        super().__init__(f"{missing} short")
        self.missing = missing


class UnknownAccount(KeyError):
    """The client does not have this class."""


class Counter:
    """Pays out."""

    def __init__(self) -> None:
        self._accounts = {"janet": 100}

    def withdraw(self, account: str, amount: int) -> int:
        """Takes an amount out; returns what is left."""
        if amount <= 0:
            raise ValueError(f"the amount is {amount}: it must be above 0")
        if account not in self._accounts:
            raise UnknownAccount(account)
        missing = amount - self._accounts[account]
        if missing > 0:
            raise InsufficientFunds(missing)
        self._accounts[account] -= amount
        return self._accounts[account]


if __name__ == "__main__":
    broker.serve({Counter(): "example.counter"}, use_ns=False)
