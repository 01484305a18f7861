"""What happens to a job, in the order it happens.

1. `enqueue`     command + request + options → validated row → storage
2. `fetcher`     what is due is promoted, what there is room for is claimed
3. `dispatcher`  what this node owns and may start next, from inserts and claims
4. `worker`      where attempts run: pooled tasks, long-lived threads, lanes for named workers
5. `executor`    one attempt, once: preparation, services, the command itself → outcome
6. `completer`   outcome → `model.settle` → guarded write; then those who wait are told
7. `retention`   months whose newest end is old → dropped
8. `rescuer`     what dead processes have left → waiting again, or failed
9. `supervisor`  the tasks that own 2 to 8: start, take over, drain, stop

Beside them: `transient` (runs without a row), `steering` (cancel, requeue, update), `lookup` and `waiters` (looking,
waiting), `memory_queue`, `start_marks`, `deadlines`, `statistics`, `hooks`, `logcapture`, `services`, `commands`,
`ref_ids`; `engine` puts them together.
"""
