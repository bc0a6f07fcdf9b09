"""Mixed work and churn for a long time: `python -m benchmarks.soak --minutes 30`.

churn      a client whose connections, names and references come and go
__main__   runs it beside others, restarts daemons, and looks for what grows

The other clients are those of `benchmarks.stress`, the processes those of `benchmarks.chaos`.
"""
