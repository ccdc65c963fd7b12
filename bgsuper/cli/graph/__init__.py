"""`bgsuper graph`: look into a network graph, wherever it lies, and carry it from one place to another, without code.

    group               the command group               source    where a graph comes from: a store, or ...
    info node channel   read                            files     ... a file: LDK's bytes, or a snapshot
    export              writes LDK's bytes to a file    stored    what a store has of a graph
    import_graph        replaces a store's records      replacing how
    options spelling    what is asked for               chains    which chain a graph is of
    reports             what is printed                 words     ... in words that harm no terminal
    addresses           where nodes can be reached

Rules:
1. Nothing that a node says of itself reaches a terminal as it came (`words`).
2. A store is only looked into, under its writer lock, except by `import`, which writes graph records and nothing else.
3. Results go to standard output, progress and errors to standard error.
4. Exit status 0: all is well; 1: what was asked for is not there; 2: it could not be done; 130: interrupted.
"""
