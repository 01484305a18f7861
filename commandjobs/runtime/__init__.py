"""What happens to a job, in the order it happens.

1. `enqueue`     command + request + options → validated row → storage
2. `dispatcher`  what this node owns and may start next, filled from inserts and claims
3. `worker`      where attempts run: pooled tasks, long-lived threads, lanes for named workers
4. `executor`    one attempt, once: preparation, services, the command itself → outcome
5. `completer`   outcome → `model.settle` → guarded write; then those who wait are told
6. `retention`   months whose newest end is old → dropped
7. `rescuer`     what dead processes have left → waiting again, or failed
8. `supervisor`  the tasks that own 2 to 7: start, take over, drain, stop

Beside them: `transient` (runs without a row), `steering` (cancel, requeue, update), `lookup` and `waiters` (looking,
waiting), `deadlines`, `statistics`, `hooks`, `logcapture`, `services`, `commands`, `ref_ids`; `engine` puts them
together.
"""
