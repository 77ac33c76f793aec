"""Faults on purpose: break a part of a running mesh under load, count what callers notice, put it back.

::

    load.py, caller.py   steady calls from a process of their own
    faults.py            what can be broken, by name
    replicas.py, outages.py, partition.py, orders.py   how, one kind of fault a file
    rotation.py          when routers and gateways took a replica out, and back
    run.py               one fault under load, from the first call to the report
    report.py            what was counted, as plain data
"""
