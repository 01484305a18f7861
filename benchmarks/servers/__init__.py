"""How fast it is on a database server, beside a bare driver and other libraries. `make bench-servers` runs it.

Every engine, ours too, is a program of its own, so that none pays for another's imports, and one in Node can take part.
Read `engine.py` (who takes part), `program.py` (what such a program answers), `cases.py` (what is asked of it).
"""
