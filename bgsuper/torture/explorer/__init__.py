"""The explorer: host, pipe, worker, store and disk simulated in one process, where anything may die at any step.

The real parts run in it: the supervisor's `Core` and `Backlog`, the `Gate`, the frames and messages, the worker's
`Writer`. Around them stand models: a disk that knows what is durable and what merely can be read (`disk`), a store on
it (`store`), processes without threads (`process`, `effects`), the loop of a host (`host`). What may happen next is a
list of names (`choices`), and `world` does what was chosen, so that a schedule is a list of words. `monitor` says what
must hold, and after every step and recovery looks whether it does.

    search      every interleaving of a small scenario; each state once (`states`)
    schedules   many scenarios by chance; also over the real SQLite store (`real`, `platter`)
    shrink      the shortest schedule that still breaks the rule; `trace` keeps it in a file, `story` tells it

    python -m bgsuper.torture.explorer exhaust
    python -m bgsuper.torture.explorer random --schedules 1000000 --jobs 2
    python -m bgsuper.torture.explorer random --real --schedules 2000 --jobs 2
    python -m bgsuper.torture.explorer replay FILE

That it finds what it should is known from bugs that are planted (tests/torture/bugs.py).
"""
