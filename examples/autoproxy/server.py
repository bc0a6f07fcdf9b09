"""A library that hands out books: objects that are registered with its daemon, and so arrive as proxies."""

from __future__ import annotations

import broker


class Book:
    """One copy of a book; notes that readers write into it stay in it."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._notes: list[str] = []

    @property
    def title(self) -> str:
        return self._title

    def scribble(self, note: str) -> None:
        self._notes.append(note)

    def notes(self) -> list[str]:
        return self._notes


class Library:
    """Has one copy of every book that was ever asked for."""

    def __init__(self, daemon: broker.Daemon) -> None:
        self._daemon = daemon
        self._books: dict[str, Book] = {}

    def borrow(self, title: str) -> Book:
        """The book itself, not a copy: whoever borrows it gets a proxy."""
        if title not in self._books:
            self._books[title] = Book(title)
            self._daemon.register(self._books[title])
        return self._books[title]

    def shelf(self) -> dict[str, Book]:
        """All the books: in a container they become proxies just the same."""
        return self._books

    def give_back(self, book: Book) -> str:
        """Takes a book that this library handed out."""
        return f"thank you for {book.title!r}, with what was written into it: {'; '.join(book.notes())}"


if __name__ == "__main__":
    daemon = broker.Daemon()
    broker.serve({Library(daemon): "example.library"}, daemon=daemon, use_ns=False)
