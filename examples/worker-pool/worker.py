"""Finds prime factors for a dispatcher: `python worker.py URI NAME`. Start as many as there are processors."""

from __future__ import annotations

import sys

import broker


def prime_factors(number: int) -> list[int]:
    factors = []
    divisor = 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            factors.append(divisor)
            number //= divisor
        divisor += 1 if divisor == 2 else 2
    return [*factors, number] if number > 1 else factors


def main(uri: str, name: str) -> None:
    print(f"{name} is ready.", flush=True)
    while True:
        with broker.Proxy(uri, wait=2) as dispatcher:  # a session for each job: its end gives the job back
            job = dispatcher.next_job(name)
            if job is not None:
                number, factors = job[1], prime_factors(job[1])
                dispatcher.done(name, job[0], factors)
                print(f"{number} = {' * '.join(map(str, factors))}", flush=True)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (KeyboardInterrupt, broker.errors.CommunicationError):
        print("The dispatcher has gone home.")
