"""What a job is: values and decisions. No I/O, no clock, no framework.

Reading order: `state` (where a job can be), `job` (the public records), `row` (what the engine moves), `outcome` (what
one attempt led to), `settle` (what follows from it), `retry` (when to try again), `stats`, `find`, `node`.
"""
