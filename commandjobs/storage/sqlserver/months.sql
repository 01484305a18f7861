-- The archive: a table of finished runs and one of log lines for each month in which jobs were created (UTC), so that a
-- month goes by dropping them. YYYY_MM stands for the month, FIRST and FOLLOWING for its first moment and the next one's.
-- Two views lie over all months; the check on `created` tells SQL Server which of their tables it need not look at.

-- fragment: finished_columns
id, run, created, ref_id, command, request, request_body, queue, priority, retry_limit, timeout, state, parents_left,
lane, lane_key, suspect, attempts, attempts_returned, callback_attempts, callback_returned, crashes, started, completed,
notified, last_activity, duration_ms, progress, status, response, response_body, error, error_code, error_message,
overrunning, cancel_requested, cancelled_by, node, meta, history, work_done, request_type, worker, tags, batch_id,
callback, callback_queue, depends_on, depends_on_policy, bound_attempt, parent_id, run_after, expires, created_by,
user_id, tenant_id, reply_to, unique_key, unique_until, concurrency_key, args, trace_id, rerun_after_crash

-- name: finished_table
-- Finished runs of jobs.
create table {schema}.finished_YYYY_MM (
    id bigint not null,
    run int not null,
    created bigint not null,
    ref_id nvarchar(400) collate Latin1_General_100_BIN2 not null,
    command nvarchar(400) collate Latin1_General_100_BIN2 not null,
    request nvarchar(max),
    request_body nvarchar(max),
    queue nvarchar(400) collate Latin1_General_100_BIN2 not null,
    priority bigint not null,
    retry_limit bigint not null,
    timeout float,
    state nvarchar(20) collate Latin1_General_100_BIN2 not null,
    parents_left int not null,
    lane nvarchar(400) collate Latin1_General_100_BIN2,
    lane_key nvarchar(400) collate Latin1_General_100_BIN2,
    suspect bit not null,
    attempts bigint not null,
    attempts_returned bigint not null,
    callback_attempts bigint not null,
    callback_returned bigint not null,
    crashes int not null,
    started bigint,
    completed bigint,
    notified bigint,
    last_activity bigint,
    duration_ms bigint not null,
    progress float,
    status nvarchar(max),
    response nvarchar(max),
    response_body nvarchar(max),
    error nvarchar(max),
    error_code nvarchar(max) collate Latin1_General_100_BIN2,
    error_message nvarchar(max) collate Latin1_General_100_BIN2,
    overrunning bigint,
    cancel_requested bigint,
    cancelled_by nvarchar(max),
    node nvarchar(max),
    meta nvarchar(max),
    history nvarchar(max),
    work_done bit not null,
    request_type nvarchar(20) not null,
    worker nvarchar(400) collate Latin1_General_100_BIN2,
    tags nvarchar(max) collate Latin1_General_100_BIN2,
    batch_id nvarchar(400) collate Latin1_General_100_BIN2,
    callback nvarchar(400) collate Latin1_General_100_BIN2,
    callback_queue nvarchar(400) collate Latin1_General_100_BIN2,
    depends_on nvarchar(max),
    depends_on_policy nvarchar(20) not null,
    bound_attempt bigint,
    parent_id bigint,
    run_after bigint,
    expires bigint,
    created_by nvarchar(400) collate Latin1_General_100_BIN2,
    user_id nvarchar(400) collate Latin1_General_100_BIN2,
    tenant_id nvarchar(400) collate Latin1_General_100_BIN2,
    reply_to nvarchar(max),
    unique_key nvarchar(400) collate Latin1_General_100_BIN2,
    unique_until nvarchar(20) not null,
    concurrency_key nvarchar(400) collate Latin1_General_100_BIN2,
    args nvarchar(max) collate Latin1_General_100_BIN2,
    trace_id nvarchar(max),
    rerun_after_crash bit not null,
    primary key (id, run),
    check (created >= FIRST and created < FOLLOWING)
);

-- name: finished_options
-- Locks stay small.
alter table {schema}.finished_YYYY_MM set (lock_escalation = disable);

-- name: finished_end
-- When a month's last job has ended tells whether it may be dropped.
create index finished_end on {schema}.finished_YYYY_MM (last_activity) include (created);

-- name: log_table
-- Log lines.
create table {schema}.log_YYYY_MM (
    job_id bigint not null,
    sequence int not null,
    created bigint not null,
    attempt bigint not null,
    [at] bigint not null,
    level nvarchar(40) not null,
    logger nvarchar(max) not null,
    message nvarchar(max) not null,
    exception nvarchar(max),
    primary key (job_id, sequence),
    check (created >= FIRST and created < FOLLOWING)
);

-- name: log_options
-- Locks stay small.
alter table {schema}.log_YYYY_MM set (lock_escalation = disable);

-- name: finished_view
-- All months: `finished_part` of each follows.
create or alter view {schema}.finished as

-- name: finished_part
-- One month of them.
select {finished_columns} from {schema}.finished_YYYY_MM

-- name: log_view
-- All months: `log_part` of each follows.
create or alter view {schema}.log as

-- name: log_part
-- One month of them.
select job_id, sequence, created, attempt, [at], level, logger, message, exception from {schema}.log_YYYY_MM

-- name: drop_finished
-- A month is forgotten.
drop table if exists {schema}.finished_YYYY_MM;

-- name: drop_log
-- The same for its log lines.
drop table if exists {schema}.log_YYYY_MM;

-- name: empty_finished
-- The last month there is: the views need one.
truncate table {schema}.finished_YYYY_MM;

-- name: empty_log
-- The same for its log lines.
truncate table {schema}.log_YYYY_MM;

-- name: lock_months
-- One process at a time makes and drops months.
select number from {schema}.mutex with (updlock, rowlock, readcommittedlock) where number = 257;

-- name: months
-- The tables of finished runs, one a month, by name.
select name from sys.tables where schema_id = schema_id(:schema) and name like N'finished[_]%' order by name;
