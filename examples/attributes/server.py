"""A thermostat: some of its attributes are remote, and some are not."""

from __future__ import annotations

import broker


class Thermostat:
    """Holds a room at a temperature, in degrees Celsius."""

    scale = "Celsius"  # an attribute of the class: not remote

    def __init__(self) -> None:
        self._target = 20.0
        self.calibration = 0.3  # an attribute of the instance: not remote

    @property
    def target(self) -> float:
        """The temperature that is wanted, from 5 to 30."""
        return self._target

    @target.setter
    def target(self, degrees: float) -> None:
        if not 5 <= degrees <= 30:
            raise ValueError(f"{degrees} is too {'cold' if degrees < 5 else 'hot'} for this room")
        self._target = degrees

    @property
    def measured(self) -> float:
        """The temperature that there is."""
        return 18.5 + self.calibration

    def __len__(self) -> int:
        """How many radiators it controls."""
        return 3


if __name__ == "__main__":
    broker.serve({Thermostat(): "example.thermostat"}, use_ns=False)
