"""``bgsuper torture``: a real supervisor and a real worker over a real disk, killed again and again, and an account,
kept outside of both, of what must be there.

    overseer  -- commands -->  host (a process of its own: a Supervisor)  -- pipe -->  worker  -->  store
       ^-------- reports --------'

    workload   what is submitted, from a seed          host       the process that submits it
    values     values that say what they are           tap        what has left the host for the worker
    model      commits: what a store must hold         reports    what host and overseer tell each other
    account    the outside world's knowledge           process    a host, seen from the overseer
    blows      what is done to them, a table           overseer   one run, from start to report
    timeline   what happened, and its figures          workspace  the directories, and the evidence

Rule: what judges (values, model, account) is pure, shares no code with what is judged, and lives in another process: it
survives every death that it judges.
"""
