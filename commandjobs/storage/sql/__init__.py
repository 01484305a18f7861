"""What the server databases share: everything but their SQL, their schema and how one talks to them.

Reading order: `driver` (what a database must offer), `rows` and `dialect` (rows as columns and documents; the bulk
writes whose shape differs), `transactions` and `gathering` (retries, deadlines, shared commits), `change` (how one
change spreads: `dependents`, `lanes`), then a job's life: `inserting`, `claiming`, `settling`, `waiting`; `reader` and
`find` look; `lease`, `nodes` and `polling` are between processes; `storage` hands calls to all of them.
"""
