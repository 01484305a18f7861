-- Statements on a month file.

-- name: last_sequences
-- The last line of each of these jobs' logs.
select job_id, max(sequence) from log where job_id in (select value from json_each(?)) group by job_id;

-- name: append_log
-- One line.
insert into log (job_id, sequence, attempt, at, level, logger, message, exception) values (?, ?, ?, ?, ?, ?, ?, ?);

-- name: note_unconfirmed
-- In the commit of the rows: they may still be in the queue file too.
insert into unconfirmed (batch, keys) values (?, ?);

-- name: last_batch
-- Where the numbers of batches go on.
select coalesce(max(batch), 0) from unconfirmed;

-- name: confirm
-- The rows of these batches have left the queue file.
delete from unconfirmed where batch in (select value from json_each(?));

-- name: unconfirmed
-- Batches that a process left behind.
select batch, keys from unconfirmed;

-- name: forget
-- A row whose settlement was refused, unless the right one has replaced it meanwhile.
delete from job where key = ? and state = ? and last_activity is ?;

-- name: delete_rows
-- Rows of jobs that the queue file does not know.
delete from job where key in (select value from json_each(?));

-- name: last_id
-- The highest id of a job that ended or logged.
select max(coalesce((select max(key) >> 16 from job), 0), coalesce((select max(job_id) from log), 0));

-- name: newest_end
-- When the last job in this file ended.
select value from meta where name = 'newest_end';

-- name: raise_newest_end
-- Another job has ended.
insert into meta (name, value) values ('newest_end', :at)
on conflict (name) do update set value = max(value, excluded.value);

-- name: read_rows
-- Whole rows by key; the order is that of `JOB_COLUMNS`.
select id, ref_id, command, created, request, request_body, queue, priority, retry_limit, timeout,
       null, state, null, parents_left, lane, lane_key, suspect, run,
       attempts, attempts_returned, callback_attempts, callback_returned, crashes,
       started, completed, notified, last_activity, duration_ms, progress, status,
       response, response_body, error, error_code, error_message,
       overrunning, cancel_requested, cancelled_by, node, meta, history, work_done,
       request_type, worker, tags, batch_id, callback, callback_queue,
       depends_on, depends_on_policy, bound_attempt, parent_id, run_after, expires,
       created_by, user_id, tenant_id, reply_to, unique_key, unique_until, concurrency_key,
       args, trace_id, rerun_after_crash
from job where key in (select value from json_each(?)) order by key;

-- name: read_runs
-- All runs of one job; the order is that of `JOB_COLUMNS`.
select id, ref_id, command, created, request, request_body, queue, priority, retry_limit, timeout,
       null, state, null, parents_left, lane, lane_key, suspect, run,
       attempts, attempts_returned, callback_attempts, callback_returned, crashes,
       started, completed, notified, last_activity, duration_ms, progress, status,
       response, response_body, error, error_code, error_message,
       overrunning, cancel_requested, cancelled_by, node, meta, history, work_done,
       request_type, worker, tags, batch_id, callback, callback_queue,
       depends_on, depends_on_policy, bound_attempt, parent_id, run_after, expires,
       created_by, user_id, tenant_id, reply_to, unique_key, unique_until, concurrency_key,
       args, trace_id, rerun_after_crash
from job where key between :first and :last order by key;

-- name: logs
-- Lines of one job.
select sequence, at, level, logger, message, exception, attempt from log
where job_id = ? and sequence > ? order by sequence limit ?;

-- name: carry_logs
-- Lines of several jobs.
select job_id, sequence, attempt, at, level, logger, message, exception from log
where job_id between :first and :last order by job_id, sequence;

-- name: keep_log
-- One line that has its number.
insert or replace into log (job_id, sequence, attempt, at, level, logger, message, exception)
values (?, ?, ?, ?, ?, ?, ?, ?);

-- name: forget_runs
-- A job comes anew.
delete from job where key between :first and :last;

-- name: forget_logs
-- The same of its log.
delete from log where job_id in (select value from json_each(?));
