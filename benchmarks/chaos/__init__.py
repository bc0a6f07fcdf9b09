"""Faults at random moments under load: `python -m benchmarks.chaos --rounds 200`.

registrar   a client of the name server; it writes down what was acknowledged, and holds it against what is there
setting     a name server, a daemon, and clients of both, in processes
faults      what is done to them
__main__    the rounds, and what must hold after all of them

The calls, and the ledger of what was executed, are those of `benchmarks.stress`.
"""
