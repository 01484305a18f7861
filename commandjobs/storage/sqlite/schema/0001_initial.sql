-- jobs.db: the queue, the summaries of everything, and what processes know of each other.
--
-- Columns of `job` and `job_summary` have the names and meanings of model/row.py; moments are microseconds since 1970 in
-- UTC; tags, depends_on, args, meta and history hold JSON, NULL when empty. Tables are not STRICT: it would ask for
-- SQLite 3.37, newer than what some systems give their Python, for a check of values that only this package writes.

-- Unfinished jobs. Jobs that ended without passing through memory stay, marked by `ended`, until they are moved.
-- AUTOINCREMENT keeps the highest id ever given, so that a table that was emptied does not begin at 1 again.
create table job (
    id integer primary key autoincrement,
    ref_id text not null,
    command text not null,
    created integer not null,
    request text,
    request_body text,
    queue text not null default 'default',
    priority integer not null default 0,
    retry_limit integer not null default 2,
    timeout real default 600.0,
    common integer not null default 0,      -- 1: every column not named above is at its default, so nobody need read it
    -- the storage's own
    claim_queue text,                       -- queue and command of the next step, while it can be claimed
    claim_command text,
    begun integer,                          -- 1: the present owner has written its start mark
    ended integer,                          -- 1: it is over, and waits to be moved to its archive
    held_key text,                          -- the unique key, while this job keeps others from it
    -- where it is
    owner integer,
    state text not null default 'Queued',
    hold integer,
    parents_left integer not null default 0,
    lane text,
    lane_key text,
    suspect integer not null default 0,
    run integer not null default 0,
    attempts integer not null default 0,
    attempts_returned integer not null default 0,
    callback_attempts integer not null default 0,
    callback_returned integer not null default 0,
    crashes integer not null default 0,
    started integer,
    completed integer,
    notified integer,
    last_activity integer,
    duration_ms integer not null default 0,
    progress real,
    status text,
    response text,
    response_body text,
    error text,
    error_code text,
    error_message text,
    overrunning integer,
    cancel_requested integer,
    cancelled_by text,
    node text,
    meta text,
    history text,
    work_done integer not null default 0,
    -- what was asked for
    request_type text not null default 'CMD',
    worker text,
    tags text,
    batch_id text,
    callback text,
    callback_queue text,
    depends_on text,
    depends_on_policy text not null default 'success',
    bound_attempt integer,
    parent_id integer,
    run_after integer,
    expires integer,
    created_by text,
    user_id text,
    tenant_id text,
    reply_to text,
    unique_key text,
    unique_until text not null default 'finish',
    concurrency_key text,
    args text,
    trace_id text,
    rerun_after_crash integer not null default 1
);

-- A job that was cancelled with its parent's failed attempt gives its ref id free.
create unique index job_ref on job (ref_id) where not (state is 'Cancelled' and error_code is 'AttemptFailed');
create unique index job_unique on job (command, held_key) where held_key is not null;
-- An index on (.., id) would store the id twice: entries of equal keys are in the order of ids anyway.
create index job_claimable on job (claim_queue, claim_command, priority desc) where claim_queue is not null;
create index job_owned on job (owner) where owner is not null;
create index job_due on job (run_after) where hold = 2;
create index job_expires on job (expires)
    where expires is not null and attempts = 0 and owner is null and ended is null;
create index job_ended on job (ended) where ended is not null;
-- A lane's holder, and who waits for it, best first.
create index job_lane_holder on job (lane)
    where lane is not null and (owner is not null or claim_queue is not null);
create index job_lane_waiting on job (lane, priority desc) where hold = 3 and lane is not null;
create index job_key_holder on job (lane_key)
    where lane_key is not null and (owner is not null or claim_queue is not null);
create index job_key_waiting on job (lane_key, priority desc) where hold = 3 and lane_key is not null;

-- What stays of a job that has ended. Its row comes with the job's end, so that an enqueue writes one row, not two.
create table job_summary (
    id integer primary key,
    ref_id text not null,
    command text not null,
    created integer not null,
    state text not null default 'Completed',
    started integer,
    completed integer,
    duration_ms integer not null default 0,
    attempts integer not null default 1,
    callback_attempts integer not null default 0,
    run integer not null default 0,
    queue text not null default 'default',
    worker text,
    tags text,
    batch_id text,
    parent_id integer,
    created_by text,
    user_id text,
    tenant_id text,
    error_code text,
    error_message text,
    args text
);

create unique index summary_ref on job_summary (ref_id)
    where not (state is 'Cancelled' and error_code is 'AttemptFailed');
create index summary_unsuccessful on job_summary (state) where state <> 'Completed';
create index summary_batch on job_summary (batch_id) where batch_id is not null;
create index summary_parent on job_summary (parent_id) where parent_id is not null;
create index summary_user on job_summary (user_id) where user_id is not null;

-- Every job there is: the live row of a live job is its summary.
create view summary as
select id, ref_id, command, state, created, started, completed, duration_ms, attempts, worker, queue, tags, batch_id,
       created_by, user_id, error_code, error_message, run, parent_id, tenant_id, args
from job
union all
select id, ref_id, command, state, created, started, completed, duration_ms, attempts, worker, queue, tags, batch_id,
       created_by, user_id, error_code, error_message, run, parent_id, tenant_id, args
from job_summary;

-- Who waits for whom. A row goes when its parent lets the child go on; it stays if the child was cancelled.
create table dependency (
    parent_id integer not null,
    child_id integer not null,
    bound_attempt integer,                  -- the child belongs to this attempt of the parent
    cancelled integer,                      -- 1: the child was cancelled since the parent did not succeed
    primary key (parent_id, child_id)
) without rowid;

create index dependency_bound on dependency (parent_id, bound_attempt) where bound_attempt is not null;

-- Jobs that have ended with more dependents than one transaction could follow.
create table unfollowed (
    parent_id integer primary key,
    state text not null
);

create table node (
    number integer primary key autoincrement,
    id text not null,
    name text not null,
    pid integer not null,
    version text not null,
    started integer not null,
    heartbeat integer not null,
    stopped integer,
    draining integer not null,
    executing integer not null,
    standby integer not null,
    running integer not null,
    concurrency integer not null,
    queues text,
    commands text
);

-- What other processes ask of the executing one.
create table steering (
    id integer primary key autoincrement,
    action text not null,
    arguments text not null,
    asked integer not null,
    answer text,
    answered integer
);

-- Executions counted by the hour.
create table tally (
    hour integer not null,
    kind text not null,
    command text not null,
    worker text not null,
    queue text not null,
    outcome text not null,
    count integer not null,
    time_ms real not null,
    histogram text not null,
    primary key (hour, kind, command, worker, queue, outcome)
) without rowid;

-- Facts about the file: `clean` is 1 while no executing process is at work, 0 while one is, -1 in a copy (a backup);
-- `filler` makes the WAL grow once.
create table meta (
    name text primary key,
    value integer not null
) without rowid;

insert into meta (name, value) values ('clean', 1), ('filler', 0);
