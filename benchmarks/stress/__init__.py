"""Calls of every kind at once, with real processes that are killed: `python -m benchmarks.stress --seconds 60`.

server      one daemon; it writes down the number of every call that it executes
client      threads and tasks that share one connection, and draw what they do at random
calls       what threads draw
tasks       what tasks draw
processes   how they are started, stopped and killed, and what they use
ledger      what was executed against what was answered
books       which calls were answered, which surely not executed, and whether anything still moves
crowd       a thousand connections, ten thousand proxies
reconnections   what each of thousands of connections leaves behind, by itself
__main__    starts them, kills the server and clients, and holds what was executed against what was answered
"""
