"""Reads and sets properties of a remote thermostat: `python client.py URI`."""

from __future__ import annotations

import sys

import broker

thermostat = broker.Proxy(sys.argv[1])
print("measured:", thermostat.measured)
print("target:", thermostat.target)

thermostat.target = 22.5
print("target, once set:", thermostat.target)

print("radiators:", len(thermostat))
print("remote members:", ", ".join(name for name in dir(thermostat) if not name.startswith("_")))

try:
    thermostat.target = 80
except ValueError as error:
    print("the setter refused:", error)

try:
    thermostat.measured = 25
except AttributeError as error:
    print("read-only:", error)

try:
    print(thermostat.calibration)
except AttributeError as error:
    print("not remote:", error)
