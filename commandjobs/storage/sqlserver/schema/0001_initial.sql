-- The queue, its history, and what the nodes know of each other, in one schema of a SQL Server database.
--
-- Columns of `job`, of the archive's tables (months.sql) and of `job_summary` have the names and meanings of
-- model/row.py; moments are microseconds since 1970 in UTC; tags, depends_on, args, meta and history hold JSON, NULL when
-- empty. Names have 200 characters at most, which can be 400 units of UTF-16, and are compared unit by unit: that is what
-- the engine does, and whatever collation the database has must not change it.
--
-- Locks never grow to a whole table (`lock_escalation`), which would stop every other node.

-- Ids are given in the inserting transaction, in the order of its rows, and never again.
create sequence {schema}.job_ids as bigint start with 1 increment by 1 cache 1000;
go

-- Unfinished jobs, and nothing else: what has ended leaves in the transaction that ends it.
create table {schema}.job (
    id bigint not null primary key,
    ref_id nvarchar(400) collate Latin1_General_100_BIN2 not null,
    command nvarchar(400) collate Latin1_General_100_BIN2 not null,
    created bigint not null,
    request nvarchar(max),
    request_body nvarchar(max),
    queue nvarchar(400) collate Latin1_General_100_BIN2 not null,
    priority bigint not null,
    retry_limit bigint not null,
    timeout float,
    common bit not null default 0,              -- every column not named above is at its default: nobody need read it
    -- the storage's own
    claim_queue nvarchar(400) collate Latin1_General_100_BIN2,   -- queue and command of the next step, while it can be
    claim_command nvarchar(400) collate Latin1_General_100_BIN2, -- claimed
    claim_kind as claim_queue + nchar(31) + claim_command persisted,  -- both in one, to step from kind to kind
    begun bit not null default 0,               -- the present owner has written its start mark
    held_key nvarchar(400) collate Latin1_General_100_BIN2,      -- the unique key, while this job keeps others from it
    has_dependents bit not null default 0,      -- others were told to wait for it
    token bigint,                               -- which call of its owner has claimed it
    -- where it is
    owner bigint,
    state nvarchar(20) collate Latin1_General_100_BIN2 not null default N'Queued',
    hold smallint,
    parents_left int not null default 0,
    lane nvarchar(400) collate Latin1_General_100_BIN2,
    lane_key nvarchar(400) collate Latin1_General_100_BIN2,
    suspect bit not null default 0,
    run int not null default 0,
    attempts bigint not null default 0,
    attempts_returned bigint not null default 0,
    callback_attempts bigint not null default 0,
    callback_returned bigint not null default 0,
    crashes int not null default 0,
    started bigint,
    completed bigint,
    notified bigint,
    last_activity bigint,
    duration_ms bigint not null default 0,
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
    work_done bit not null default 0,
    -- what was asked for
    request_type nvarchar(20) not null default N'CMD',
    worker nvarchar(400) collate Latin1_General_100_BIN2,
    tags nvarchar(max) collate Latin1_General_100_BIN2,
    batch_id nvarchar(400) collate Latin1_General_100_BIN2,
    callback nvarchar(400) collate Latin1_General_100_BIN2,
    callback_queue nvarchar(400) collate Latin1_General_100_BIN2,
    depends_on nvarchar(max),
    depends_on_policy nvarchar(20) not null default N'success',
    bound_attempt bigint,
    parent_id bigint,
    run_after bigint,
    expires bigint,
    created_by nvarchar(400) collate Latin1_General_100_BIN2,
    user_id nvarchar(400) collate Latin1_General_100_BIN2,
    tenant_id nvarchar(400) collate Latin1_General_100_BIN2,
    reply_to nvarchar(max),
    unique_key nvarchar(400) collate Latin1_General_100_BIN2,
    unique_until nvarchar(20) not null default N'finish',
    concurrency_key nvarchar(400) collate Latin1_General_100_BIN2,
    args nvarchar(max) collate Latin1_General_100_BIN2,
    trace_id nvarchar(max),
    rerun_after_crash bit not null default 1
);
go
alter table {schema}.job set (lock_escalation = disable);
go

-- A job that was cancelled with its parent's failed attempt gives its ref id free; it is in job_summary by then.
create unique index job_ref on {schema}.job (ref_id);
create unique index job_unique on {schema}.job (command, held_key) where held_key is not null;
-- It has nothing but its keys: a claim then reads, and so locks, each row itself as well, and skips those that somebody is
-- changing. With all that it wants in the index it would lock there first and wait for the row, and deadlock.
create index job_claimable on {schema}.job (claim_kind, priority desc, id) where claim_queue is not null;
create index job_owned on {schema}.job (owner) where owner is not null;
create index job_cancelled on {schema}.job (owner) where owner is not null and cancel_requested is not null;
create index job_due on {schema}.job (run_after) where hold = 2;
create index job_expires on {schema}.job (expires) where expires is not null and attempts = 0 and owner is null;
-- A lane has one holder: the database itself sees to it.
create unique index job_lane_holder on {schema}.job (lane) where lane is not null and hold is null;
create index job_lane_waiting on {schema}.job (lane, priority desc, id) where hold = 3 and lane is not null;
create unique index job_key_holder on {schema}.job (lane_key) where lane_key is not null and hold is null;
create index job_key_waiting on {schema}.job (lane_key, priority desc, id) where hold = 3 and lane_key is not null;
go

-- What stays of a job that has ended, as long as its month does.
create table {schema}.job_summary (
    id bigint not null primary key,
    ref_id nvarchar(400) collate Latin1_General_100_BIN2 not null,
    command nvarchar(400) collate Latin1_General_100_BIN2 not null,
    created bigint not null,
    state nvarchar(20) collate Latin1_General_100_BIN2 not null,
    started bigint,
    completed bigint,
    duration_ms bigint not null,
    attempts bigint not null,
    callback_attempts bigint not null,
    run int not null,
    queue nvarchar(400) collate Latin1_General_100_BIN2 not null,
    worker nvarchar(400) collate Latin1_General_100_BIN2,
    tags nvarchar(max) collate Latin1_General_100_BIN2,
    batch_id nvarchar(400) collate Latin1_General_100_BIN2,
    parent_id bigint,
    created_by nvarchar(400) collate Latin1_General_100_BIN2,
    user_id nvarchar(400) collate Latin1_General_100_BIN2,
    tenant_id nvarchar(400) collate Latin1_General_100_BIN2,
    error_code nvarchar(max) collate Latin1_General_100_BIN2,
    error_message nvarchar(max) collate Latin1_General_100_BIN2,
    args nvarchar(max) collate Latin1_General_100_BIN2,
    -- Its own id once its ref id is free for others, else 0. (The condition of an index can neither negate nor say "or".)
    given_up bigint not null
);
go
alter table {schema}.job_summary set (lock_escalation = disable);
go
create unique index summary_ref on {schema}.job_summary (ref_id, given_up);
create index summary_unsuccessful on {schema}.job_summary (state) where state <> N'Completed';
create index summary_batch on {schema}.job_summary (batch_id) where batch_id is not null;
create index summary_parent on {schema}.job_summary (parent_id) where parent_id is not null;
create index summary_user on {schema}.job_summary (user_id) where user_id is not null;
go

-- Every job there is: the live row of a live job is its summary.
create view {schema}.summary as
select id, ref_id, command, state, created, started, completed, duration_ms, attempts, worker, queue, tags, batch_id,
       created_by, user_id, error_code, error_message, run, parent_id, tenant_id, args
from {schema}.job
union all
select id, ref_id, command, state, created, started, completed, duration_ms, attempts, worker, queue, tags, batch_id,
       created_by, user_id, error_code, error_message, run, parent_id, tenant_id, args
from {schema}.job_summary;
go

-- Who waits for whom. A row goes when its parent lets the child go on; it stays if the child was cancelled.
create table {schema}.dependency (
    parent_id bigint not null,
    child_id bigint not null,
    bound_attempt bigint,                       -- the child belongs to this attempt of the parent
    cancelled bit not null,                     -- the child was cancelled since the parent did not succeed
    primary key (parent_id, child_id)
);
go
alter table {schema}.dependency set (lock_escalation = disable);
go
create index dependency_bound on {schema}.dependency (parent_id, bound_attempt) where bound_attempt is not null;
create index dependency_child on {schema}.dependency (child_id) where cancelled = 1;
go

-- Jobs that have ended with more dependents than one transaction could follow.
create table {schema}.unfollowed (
    parent_id bigint not null primary key,
    state nvarchar(20) collate Latin1_General_100_BIN2 not null
);
go

-- One start of one process. `seen` is the database's own time of its last sign of life, and all that leases go by.
create table {schema}.node (
    number bigint identity(1, 1) not null primary key,
    id nvarchar(400) collate Latin1_General_100_BIN2 not null,
    name nvarchar(max) not null,
    pid bigint not null,
    version nvarchar(400) not null,
    started bigint not null,
    heartbeat bigint not null,
    stopped bigint,
    draining bit not null,
    executing bit not null,
    standby bit not null,
    running bigint not null,
    concurrency bigint not null,
    queues nvarchar(max),
    commands nvarchar(max),
    machine nvarchar(400) collate Latin1_General_100_BIN2,  -- boot id and pid namespace: where `pid` means something
    lease bigint not null,                      -- microseconds of silence after which it is dead
    seen bigint not null,
    lost bit not null default 0                 -- it was found dead: it owns nothing any more, whatever it believes
);
go

-- Executions counted by the hour, by each node for itself: rows that several nodes write make them wait for each other.
create table {schema}.tally (
    hour bigint not null,
    kind nvarchar(40) collate Latin1_General_100_BIN2 not null,
    command nvarchar(400) collate Latin1_General_100_BIN2 not null,
    worker nvarchar(400) collate Latin1_General_100_BIN2 not null,
    queue nvarchar(400) collate Latin1_General_100_BIN2 not null,
    outcome nvarchar(40) collate Latin1_General_100_BIN2 not null,
    node bigint not null,
    [count] bigint not null,
    time_ms float not null,
    histogram nvarchar(max) not null
);
go
-- Its rows are told apart by names that are longer together than a key may be, so nothing but the hour and the node is one.
create clustered index tally_hour on {schema}.tally (hour, node);
go

-- Rows that stand for what one transaction at a time may do: 0 to 255 elect in lanes, 256 rescues, 257 makes months.
create table {schema}.mutex (
    number int not null primary key
);
go
with digit (n) as (
    select n from (values (0), (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12), (13), (14), (15)) as digit (n)
)
insert into {schema}.mutex (number)
select high.n * 16 + low.n from digit as high cross join digit as low
union all
select 256
union all
select 257;
go
