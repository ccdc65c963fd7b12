"""`bgsuper demo`: a small node under load, a disk that slows and fails, a worker that is killed, and a look at what is
left. Exit status 0 only if nothing was lost.

    command     options, exit status                    model       what the store must hold
    workspace   the directory                           witness     a supervisor that tells the model
    scenario    the acts, a table                       app, peers  the node objects
    run         one run, from start to report           load        what feeds them
    director    plays the acts                          meter       how late the loop is
    verify      compares the reopened store             sampler     one look, 20 times a second
    report      verdict, tables, JSON                   series      the looks so far
    show        to whom the run is told                 screen      the picture; viewer draws it

Rules: what judges (model, verify, report) is pure and shares no code with what is judged. Nothing is drawn on the loop
that is measured: the live view is a process of its own.

What it does not show: a loss of power. SIGKILL takes a process away, never the page cache.
"""
