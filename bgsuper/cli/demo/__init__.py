"""`bgsuper demo`: a small node under load, a disk that slows and fails, a worker that is killed, and a look at what is
left. Exit status 0 only if nothing was lost.

    command     options, exit status                    witness     a supervisor that tells the model
    workspace   the directory                           app, peers  the node objects
    scenario    the acts, a table                       load        what feeds them
    run         one run, from start to report           meter       how late the loop is
    director    plays the acts                          sampler     one look, 20 times a second
    verify      compares the reopened store             series      the looks so far
    report      verdict, tables, JSON                   screen      the picture; viewer draws it
    show        to whom the run is told                 the model   is torture's: what commits make of a store

Rules: what judges (model, verify, report) is pure and shares no code with what is judged. Nothing is drawn on the loop
that is measured: the live view is a process of its own.

What it does not show: a loss of power. SIGKILL takes a process away, never the page cache.
"""
