-- Statements on the queue file, in the order of a job's life.
--
-- Lists of ids come as one JSON parameter: one text for any number, and 10 to 25 % faster than a statement per id.
-- Conditions repeat those of the partial indexes word for word, else the planner does not use them.

-- ── insert ──────────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: last_id
-- The highest id ever given, also if its row is long gone.
select coalesce((select seq from sqlite_sequence where name = 'job'), 0);

-- name: taken_ref
-- Whether a ref id exists, live or finished, and whose it is.
select ref_id, id from job where ref_id = :ref and not (state is 'Cancelled' and error_code is 'AttemptFailed')
union all
select ref_id, id from job_summary where ref_id = :ref and not (state is 'Cancelled' and error_code is 'AttemptFailed');

-- name: taken_refs
-- Which of these ref ids exist, live or finished, and whose they are.
select ref_id, id from job
where ref_id in (select value from json_each(:refs)) and not (state is 'Cancelled' and error_code is 'AttemptFailed')
union all
select ref_id, id from job_summary
where ref_id in (select value from json_each(:refs)) and not (state is 'Cancelled' and error_code is 'AttemptFailed');

-- name: key_holder_of
-- The unfinished job that keeps others of its command from a unique key.
select id, ref_id from job where command = ? and held_key = ? and held_key is not null;

-- name: hold_keys
-- New jobs with unique keys keep others from them.
update job set held_key = unique_key where id in (select value from json_each(?));

-- name: mark_ended
-- New jobs that were over at once wait to be moved.
update job set ended = 1 where id in (select value from json_each(?));

-- name: depend
-- A child waits for a parent, or was cancelled because of it.
insert or replace into dependency (parent_id, child_id, bound_attempt, cancelled) values (?, ?, ?, ?);

-- name: read_parents
-- What new jobs must know of those they depend on.
select id, state, attempts, callback_attempts, owner from job where id in (select value from json_each(:ids))
union all
select id, state, attempts, callback_attempts, null from job_summary where id in (select value from json_each(:ids));

-- name: summary_of_run
-- Whether this run of a job is the one that has ended, and has been moved.
select 1 from job_summary where id = ? and run = ?;

-- name: delete_summary
-- The job is live again.
delete from job_summary where id = ?;

-- ── claim and start ─────────────────────────────────────────────────────────────────────────────────────────────────

-- name: next_claimable_kind
-- The next (queue, command) that has claimable jobs: stepping over the index costs the same however many there are.
-- (A comparison of row values would walk through all jobs of a queue: 16 ms with 100,000.)
select * from (
    select claim_queue, claim_command from job
    where claim_queue = :queue and claim_command > :command and claim_queue is not null
    order by claim_command limit 1
)
union all
select * from (
    select claim_queue, claim_command from job
    where claim_queue > :queue and claim_queue is not null
    order by claim_queue, claim_command limit 1
)
limit 1;

-- name: claimable
-- A page of the best claimable jobs of one kind: the columns of a common row, which need no second look. As one row of
-- texts: the driver lets go of the GIL for each row of a result, and gets it back late from a busy loop.
select json_group_array(id), json_group_array(ref_id), json_group_array(created), json_group_array(request),
       json_group_array(request_body), json_group_array(priority), json_group_array(retry_limit),
       json_group_array(timeout), json_group_array(common)
from (
    select * from job
    where claim_queue = :queue and claim_command = :command and claim_queue is not null
      and (expires is null or attempts > 0 or expires > :now)
    order by priority desc, id limit :most offset :offset
);

-- name: own
-- Claimed jobs leave the claim index.
update job set owner = :owner, claim_queue = null, claim_command = null, begun = null
where id in (select value from json_each(:ids));

-- name: read_jobs
-- Whole rows; the order is that of `JOB_COLUMNS`.
select id, ref_id, command, created, request, request_body, queue, priority, retry_limit, timeout,
       owner, state, hold, parents_left, lane, lane_key, suspect, run,
       attempts, attempts_returned, callback_attempts, callback_returned, crashes,
       started, completed, notified, last_activity, duration_ms, progress, status,
       response, response_body, error, error_code, error_message,
       overrunning, cancel_requested, cancelled_by, node, meta, history, work_done,
       request_type, worker, tags, batch_id, callback, callback_queue,
       depends_on, depends_on_policy, bound_attempt, parent_id, run_after, expires,
       created_by, user_id, tenant_id, reply_to, unique_key, unique_until, concurrency_key,
       args, trace_id, rerun_after_crash
from job where id in (select value from json_each(?)) order by id;

-- name: mark_started
-- The start of an attempt. A key that is only held until the start is free.
update job set state = ?, attempts = ?, callback_attempts = ?, started = ?, last_activity = ?, node = ?, suspect = ?,
    progress = ?, status = ?, begun = 1, common = 0,
    held_key = case when unique_until = 'start' then null else held_key end
where id = ? and owner = ?;

-- name: begun_among
-- Which of these jobs their owners have started.
select id from job where id in (select value from json_each(?)) and begun is not null;

-- name: report
-- The newest progress and sign of life.
update job set progress = ?, status = ?, last_activity = ?, overrunning = ?, common = 0 where id = ? and owner = ?;

-- ── settle ──────────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: held
-- Who owns these jobs now, which lanes they hold, and whether somebody has asked for their cancellation.
select id, owner, lane, lane_key, cancel_requested, cancelled_by from job
where id in (select value from json_each(?)) and ended is null;

-- name: delete_plain_jobs
-- These jobs leave the queue, if all of them are their owner's, hold no lane, are not to be cancelled, and have nobody
-- who depends on them; else none does. (What is counted does not look at the outer row, so it is counted once, before.)
delete from job
where id in (select value from json_each(:ids))
  and :count = (
    select count(*) from job as plain
    where id in (select value from json_each(:ids)) and owner = :owner and lane is null and lane_key is null
      and cancel_requested is null and ended is null
      and not exists (select 1 from dependency where parent_id = plain.id)
  );

-- name: delete_jobs
-- Finished jobs that lie in their archive leave the queue.
delete from job where id in (select value from json_each(?));

-- name: place
-- Who owns a waiting job, what parks it, and as what it can be claimed.
update job set owner = ?, hold = ?, parents_left = ?, suspect = ?, claim_queue = ?, claim_command = ?,
    begun = null, common = 0
where id = ?;

-- name: rewrite
-- Everything that an attempt or an operator can change of a job; the order is that of `REWRITTEN`.
update job set owner = ?, state = ?, hold = ?, parents_left = ?, lane = ?, lane_key = ?, suspect = ?, attempts = ?,
    attempts_returned = ?, callback_attempts = ?, callback_returned = ?, crashes = ?, started = ?, completed = ?,
    notified = ?, last_activity = ?, duration_ms = ?, progress = ?, status = ?, response = ?, response_body = ?,
    error = ?, error_code = ?, error_message = ?, overrunning = ?, cancel_requested = ?, cancelled_by = ?, node = ?,
    meta = ?, history = ?, work_done = ?, callback_queue = ?, run_after = ?, priority = ?, queue = ?,
    claim_queue = ?, claim_command = ?, ended = ?, begun = null, common = 0,
    held_key = case when ? or (unique_until = 'start' and ?) then null else held_key end
where id = ?;

-- name: parents_among
-- Which of these jobs others depend on.
select distinct parent_id from dependency where parent_id in (select value from json_each(?));

-- name: ended
-- Jobs that are over and wait to be moved to their archives.
select id from job where ended is not null limit ?;

-- name: live_runs
-- Which run of these jobs is in the queue file.
select id, run from job where id in (select value from json_each(?));

-- name: known
-- What there is of these jobs here: the run, whose id it is, and whether it is live.
select id, run, ref_id, 1 from job where id in (select value from json_each(:ids))
union all
select id, run, ref_id, 0 from job_summary where id in (select value from json_each(:ids));

-- name: begin_ids
-- The table of ids has no row before the first insert.
insert into sqlite_sequence (name, seq)
select 'job', 0 where not exists (select 1 from sqlite_sequence where name = 'job');

-- name: raise_last_id
-- Ids go on above this one.
update sqlite_sequence set seq = max(seq, ?) where name = 'job';

-- name: live_keys
-- Live jobs above an id, a piece at a time, with what names their archived row.
select id, run, created from job where id > ? order by id limit ?;

-- name: leaving
-- The same, with what their leaving means for others: those that are marked as ended have told their dependents.
select id, run, ended, lane, lane_key from job where id in (select value from json_each(?));

-- ── dependents ──────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: children
-- Who waits for a job.
select child_id from dependency where parent_id = ? and cancelled is null limit ?;

-- name: bound_children
-- Who belongs to one attempt of a job.
select child_id from dependency indexed by dependency_bound
where parent_id = ? and bound_attempt = ? and bound_attempt is not null and cancelled is null;

-- name: forget_dependency
-- The child waits for this parent no more.
delete from dependency where parent_id = ? and child_id = ?;

-- name: keep_cancelled
-- The child was cancelled because of this parent.
update dependency set cancelled = 1 where parent_id = ? and child_id = ?;

-- name: follow_later
-- More dependents than one transaction may hold.
insert or replace into unfollowed (parent_id, state) values (?, ?);

-- name: unfollowed
-- Whose dependents are still to be told.
select parent_id, state from unfollowed order by parent_id limit ?;

-- name: followed
-- They are told, or a new marker is written in the same transaction.
delete from unfollowed where parent_id in (select value from json_each(?));

-- ── lanes ───────────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: worker_holder
-- The job that has a named worker: owned, or claimable.
select id from job where lane = ? and lane is not null and (owner is not null or claim_queue is not null) limit 1;

-- name: key_holder
-- The same for a concurrency key.
select id from job where lane_key = ? and lane_key is not null and (owner is not null or claim_queue is not null) limit 1;

-- name: worker_head
-- Who gets a named worker, if it is free: the best of those whose key is free too.
select id, priority from job as waiting
where waiting.lane = :name and waiting.hold = 3 and waiting.lane is not null
  and not exists (
      select 1 from job where lane = :name and lane is not null and (owner is not null or claim_queue is not null))
  and (waiting.lane_key is null or not exists (
      select 1 from job
      where lane_key = waiting.lane_key and lane_key is not null and (owner is not null or claim_queue is not null)))
order by waiting.priority desc, waiting.id limit 1;

-- name: key_head
-- The same for a concurrency key.
select id, priority from job as waiting
where waiting.lane_key = :name and waiting.hold = 3 and waiting.lane_key is not null
  and not exists (
      select 1 from job
      where lane_key = :name and lane_key is not null and (owner is not null or claim_queue is not null))
  and (waiting.lane is null or not exists (
      select 1 from job
      where lane = waiting.lane and lane is not null and (owner is not null or claim_queue is not null)))
order by waiting.priority desc, waiting.id limit 1;

-- ── time, operators, dead owners ────────────────────────────────────────────────────────────────────────────────────

-- name: due
-- Jobs whose time has come.
select id from job where hold = 2 and run_after <= :now order by run_after limit :most;

-- name: next_due
-- When the next one comes.
select min(run_after) from job where hold = 2;

-- name: expired
-- Waiting jobs that were not started in time.
select id from job
where expires is not null and attempts = 0 and owner is null and ended is null and expires <= :now
order by expires limit :most;

-- name: next_expiry
-- When the next one expires.
select min(expires) from job where expires is not null and attempts = 0 and owner is null and ended is null;

-- name: request_cancellation
-- The owner of the job is to end it.
update job set cancel_requested = ?, cancelled_by = ?, common = 0 where id = ?;

-- name: finished_among
-- Which of these have ended and were moved.
select id from job_summary where id in (select value from json_each(?));

-- name: orphaned
-- Jobs whose owner is another process; it is dead, since this one executes. `free`: with it nothing is to be decided.
select id, begun, state = 'Queued' and lane is null and lane_key is null and run_after is null
                  and cancel_requested is null as free from job
where owner < :owner and owner is not null
union all
select id, begun, state = 'Queued' and lane is null and lane_key is null and run_after is null
                  and cancel_requested is null as free from job
where owner > :owner and owner is not null
limit :most;

-- name: release_free
-- Jobs that were only claimed, all at once: a takeover may meet thousands, and its first job waits for them.
update job set owner = null, suspect = 1, common = 0, claim_queue = queue, claim_command = command
where id in (select value from json_each(?));

-- ── counts ──────────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: add_tally
-- More was counted under a key.
insert into tally (hour, kind, command, worker, queue, outcome, count, time_ms, histogram)
values (?, ?, ?, ?, ?, ?, ?, ?, ?)
on conflict (hour, kind, command, worker, queue, outcome) do update set
    count = count + excluded.count, time_ms = time_ms + excluded.time_ms,
    histogram = (
        select json_group_object(bucket, number) from (
            select key as bucket, sum(value) as number
            from (select key, value from json_each(tally.histogram)
                  union all
                  select key, value from json_each(excluded.histogram))
            group by key
        )
    );

-- name: replace_tally
-- What was counted under a key, wherever that was.
insert or replace into tally (hour, kind, command, worker, queue, outcome, count, time_ms, histogram)
values (?, ?, ?, ?, ?, ?, ?, ?, ?);

-- ── processes ───────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: add_node
-- A process has started.
insert into node (id, name, pid, version, started, heartbeat, stopped, draining, executing, standby, running,
    concurrency, queues, commands)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: keep_node
-- A process lives; it is written anew if it was forgotten meanwhile.
insert or replace into node (id, name, pid, version, started, heartbeat, stopped, draining, executing, standby, running,
    concurrency, queues, commands, number)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: bury_executors
-- One process executes at a time: others that say they do are dead.
update node set executing = 0, stopped = coalesce(stopped, heartbeat) where executing = 1 and number <> ?;

-- name: forget_nodes
-- Processes that stopped, or were last heard of, long ago, and own nothing.
delete from node
where coalesce(stopped, heartbeat) < :before and not exists (select 1 from job where owner = node.number and owner is not null);

-- name: ask
-- Ask the executing process for something.
insert into steering (action, arguments, asked) values (?, ?, ?);

-- name: withdraw
-- The asking process has its answer, or no longer wants it.
delete from steering where id = ?;

-- name: answer
-- The executing process has done it.
update steering set answer = ?, answered = ? where id = ? and answered is null;

-- name: forget_answers
-- Nobody came for these.
delete from steering where asked < ?;

-- name: was_clean
-- Whether the last executing process has stopped in order (1) or not (0), or the file is a copy (-1).
select value from meta where name = 'clean';

-- name: mark_copy
-- Run in a backup of the queue file: its months are from another moment.
update meta set value = -1 where name = 'clean';

-- name: set_clean
-- An executing process begins (0) or has stopped in order (1).
update meta set value = ? where name = 'clean';

-- ── dropping a month ────────────────────────────────────────────────────────────────────────────────────────────────

-- name: drop_summaries
-- Jobs that are forgotten.
delete from job_summary where id in (select value from json_each(?));

-- name: drop_dependencies
-- Nobody was cancelled because of them any more.
delete from dependency where cancelled is not null and parent_id in (select value from json_each(?));

-- ── moving jobs to another storage, and taking them in ──────────────────────────────────────────────────────────────

-- name: contents
-- How many jobs there are, and the highest numbers given to a job and to a process.
select (select count(*) from summary), coalesce((select seq from sqlite_sequence where name = 'job'), 0),
       coalesce((select seq from sqlite_sequence where name = 'node'), 0);

-- name: count_of_month
-- The jobs created in a month that have ended.
select count(*) from job_summary where created >= :first and created < :following;

-- name: carry_ids
-- The next jobs by id, and whether their rows are here.
select id, ref_id, run, created, 1 from job where id > :after
union all
select id, ref_id, run, created, 0 from job_summary where id > :after
order by id limit :most;

-- name: carry_month_ids
-- The same of jobs created in a month that have ended.
select id, ref_id, run, created, 0 from job_summary
where id > :after and created >= :first and created < :following order by id limit :most;

-- name: carry_summaries
-- What is left of jobs whose archives are not there; the order is that of `SUMMARY_COLUMNS`.
select id, ref_id, command, created, state, started, completed, duration_ms, attempts, callback_attempts, run, queue,
       worker, tags, batch_id, parent_id, created_by, user_id, tenant_id, error_code, error_message, args
from job_summary where id in (select value from json_each(?));

-- name: carry_ties
-- What jobs have to do with their parents.
select child_id, parent_id, bound_attempt, cancelled from dependency
where parent_id in (select value from json_each(:parents)) and child_id between :first and :last
order by child_id, parent_id;

-- name: copying
-- The copy that is being made here, or was.
select source, run, last_id, source_node, target_node, after, ref_id, done from copying;

-- name: note_copying
-- How far it has come.
insert or replace into copying (place, source, run, last_id, source_node, target_node, after, ref_id, done)
values (1, :source, :run, :last_id, :source_node, :target_node, :after, :ref_id, :done);

-- name: known_among
-- Which of these ids are given to jobs, and to which.
select id, ref_id, created from job where id in (select value from json_each(:ids))
union all
select id, ref_id, created from job_summary where id in (select value from json_each(:ids));

-- name: forget_ties
-- These jobs come anew, with what they have to do with their parents.
delete from dependency where child_id in (select value from json_each(?));

-- name: begin_again
-- Their owners had started these jobs.
update job set begun = 1 where id in (select value from json_each(?));

-- ── looking ─────────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: id_of_ref
-- The job with a ref id.
select id from job where ref_id = :ref and not (state is 'Cancelled' and error_code is 'AttemptFailed')
union all
select id from job_summary where ref_id = :ref and not (state is 'Cancelled' and error_code is 'AttemptFailed');

-- name: moved_summary
-- The summary of a job that was moved to its archive.
select id, ref_id, command, state, created, started, completed, duration_ms, attempts, worker, queue, tags, batch_id,
       created_by, user_id, error_code, error_message, run
from job_summary where id in (select value from json_each(?));

-- name: created
-- When a job was created.
select created from job where id = :id union all select created from job_summary where id = :id;

-- name: still_unfinished
-- Which of these jobs have not ended, and the highest id there was.
select id from job where id in (select value from json_each(:ids)) and ended is null
union all
select -coalesce((select seq from sqlite_sequence where name = 'job'), 0);

-- name: cancelled_dependents
-- Jobs that were cancelled because of this one, as long as anything is known of them.
select child_id from dependency
where parent_id = :id and cancelled is not null
  and (exists (select 1 from job_summary where id = child_id) or exists (select 1 from job where id = child_id))
order by child_id;

-- name: lanes
-- Live jobs by queue and worker.
select queue, worker, sum(begun is null), sum(begun is null and (hold is null or hold = 3)), sum(begun is not null),
       min(case when begun is null and (hold is null or hold = 3) then max(created, coalesce(run_after, 0)) end)
from job where ended is null group by queue, worker order by queue, worker;

-- name: tallies
-- What was counted since.
select hour, kind, command, worker, queue, outcome, count, time_ms, histogram from tally where hour >= ?;

-- name: nodes
-- All processes known.
select number, id, name, pid, version, started, heartbeat, stopped, draining, executing, standby, running, concurrency,
       queues, commands
from node order by number;

-- name: intents
-- What was asked for and not answered yet.
select id, action, arguments from steering where answered is null order by id;

-- name: answered
-- The answer to one question, once there is one.
select answer from steering where id = ? and answered is not null;

-- name: summaries_of_month
-- A piece of the jobs created in a month that have ended, by id.
select id from job_summary where id > :after and created >= :first and created < :following order by id limit :most;

-- ── find: the fragments of its filters, joined by "and" ─────────────────────────────────────────────────────────────

-- name: find
-- The view's columns in the order of `to_summary`; filters follow.
select id, ref_id, command, state, created, started, completed, duration_ms, attempts, worker, queue, tags, batch_id,
       created_by, user_id, error_code, error_message, run
from summary where true

-- name: find_newest
-- The end of `find`.
order by id desc limit :limit

-- name: count
-- How many match, up to a limit: filters lie between this and `count_end`.
select count(*) from (select 1 from summary where true

-- name: count_end
-- The end of `count`.
limit :limit)
