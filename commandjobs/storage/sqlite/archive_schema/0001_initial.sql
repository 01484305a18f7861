-- jobs_YYYY-MM.db: full rows and logs of the jobs created in one month (UTC).

-- A finished run of a job; the columns of `job` in the queue file, apart from what only a live job needs.
-- The key is id * 65536 + run: one b-tree in place of two (a table with a two-column key costs 40 % more per row here).
create table job (
    key integer primary key,
    id integer generated always as (key >> 16) virtual,
    run integer generated always as (key & 65535) virtual,
    ref_id text not null,
    command text not null,
    created integer not null,
    request text,
    request_body text,
    queue text not null default 'default',
    priority integer not null default 0,
    retry_limit integer not null default 2,
    timeout real default 600.0,
    state text not null default 'Completed',
    lane text,
    lane_key text,
    suspect integer not null default 0,
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
    parents_left integer not null default 0,
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

create table log (
    job_id integer not null,
    sequence integer not null,
    attempt integer not null,
    at integer not null,
    level text not null,
    logger text not null,
    message text not null,
    exception text,
    primary key (job_id, sequence)
) without rowid;

-- Commits whose jobs may still be in the queue file too: JSON arrays of keys.
create table unconfirmed (
    batch integer primary key,
    keys text not null
);

-- `newest_end`: when the last job in this file ended.
create table meta (
    name text primary key,
    value integer not null
) without rowid;
