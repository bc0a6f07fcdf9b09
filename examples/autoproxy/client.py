"""Borrows remote books: `python client.py URI`."""

from __future__ import annotations

import sys

import broker

library = broker.Proxy(sys.argv[1])

book = library.borrow("Emma")
print("borrowed a", type(book).__name__, "for", repr(book.title))
book.scribble("badly done, indeed")

again = library.borrow("Emma")
print("the same book:", again == book, "with the notes", again.notes())

library.borrow("Persuasion").scribble("eight years and a half")
for title, copy in library.shelf().items():
    print(f"on the shelf: {title}, a {type(copy).__name__} with {len(copy.notes())} note")

print(library.give_back(book))
