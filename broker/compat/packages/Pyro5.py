"""Pyro5, of which `broker.compat.modules` says what is in it."""

from broker.compat.modules import fill

fill(globals())
