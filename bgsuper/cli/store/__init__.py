"""`bgsuper store`: look into a store, check it, copy it, and save what is whole of a damaged one, without code.

    group          the command group                     spelling     how keys and namespaces are written
    info ls get    read                                  reports      what is printed, as tables and as JSON
    verify         reads everything                      progress     how far it is
    copy salvage   read one store and make another       destination  where that is built until it is complete
    backup         of a store in use                     live         what the worker that uses it answers
                                                         source       the store that is looked into

Rules:
1. A store is only looked into (`StoreView`), under its writer lock; the one that is made is a new one.
2. Results go to standard output, progress and errors to standard error.
3. Exit status 0: all is well; 1: something is damaged, lost or absent; 2: it could not be done; 130: interrupted.
"""
