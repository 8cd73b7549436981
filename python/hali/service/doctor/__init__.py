"""`hali doctor`: looks at everything a node needs, says what is wrong, and names the command that mends it.

`table.py` lists the checks; each is a function from a `Context` to a `Finding` in the module of its group. They import what
they look at inside, so that a part that is missing is one failed check and not the end of all.
"""
