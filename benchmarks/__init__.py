"""Ours and the peers on the same work, in turn, in separate pinned processes: `python -m benchmarks --help`.

contestants/   who takes part: for each one module that serves the target and calls it
works          what is measured, on which cores, and what has to be reached
clocks         how it is measured: latency, throughput, memory
processes      one server, one client, pinned; what they say to the runner
runner         rounds, rows and contestants, in turn
results        medians, ratios within a round, verdicts; JSON
report         the table, as text and as markdown
picture        the same as SVG
"""
