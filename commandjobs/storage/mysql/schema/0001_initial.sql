-- The queue, its history, and what the nodes know of each other, in tables of a MySQL or MariaDB database.
--
-- Columns of `job`, `finished` and `job_summary` have the names and meanings of model/row.py; moments are microseconds
-- since 1970 in UTC; tags, depends_on, args, meta and history hold JSON, NULL when empty. Every text is compared byte by
-- byte, spaces at its end included: MySQL and MariaDB have each a name of their own for that, `{collation}` here.
--
-- What others write as an index of some of the rows (`where ...`) is here an index of a column that is NULL in all
-- other rows. Each statement can be run twice: a file that was interrupted is run again.

-- Unfinished jobs, and nothing else: what has ended leaves in the transaction that ends it.
create table if not exists {prefix}job (
    id bigint not null auto_increment primary key,
    ref_id varchar(200) not null,
    command varchar(200) not null,
    created bigint not null,
    request mediumtext,
    request_body mediumtext,
    queue varchar(200) not null default 'default',
    priority bigint not null default 0,
    retry_limit bigint not null default 2,
    timeout double default 600.0,
    common boolean not null default false,      -- every column not named above is at its default: nobody need read it
    -- the storage's own
    claim_queue varchar(200),                   -- queue and command of the next step, while it can be claimed
    claim_command varchar(200),
    begun boolean not null default false,       -- the present owner has written its start mark
    held_key varchar(200),                      -- the unique key, while this job keeps others from it
    has_dependents boolean not null default false,  -- others were told to wait for it
    token bigint,                               -- which call of its owner has claimed it
    -- where it is
    owner bigint,
    state varchar(16) not null default 'Queued',
    hold smallint,
    parents_left integer not null default 0,
    lane varchar(200),
    lane_key varchar(200),
    suspect boolean not null default false,
    run integer not null default 0,
    attempts bigint not null default 0,
    attempts_returned bigint not null default 0,
    callback_attempts bigint not null default 0,
    callback_returned bigint not null default 0,
    crashes integer not null default 0,
    started bigint,
    completed bigint,
    notified bigint,
    last_activity bigint,
    duration_ms bigint not null default 0,
    progress double,
    status mediumtext,
    response mediumtext,
    response_body mediumtext,
    error mediumtext,
    error_code text,
    error_message mediumtext,
    overrunning bigint,
    cancel_requested bigint,
    cancelled_by text,
    node text,
    meta mediumtext,
    history mediumtext,
    work_done boolean not null default false,
    -- what was asked for
    request_type varchar(16) not null default 'CMD',
    worker varchar(200),
    tags mediumtext,
    batch_id varchar(200),
    callback varchar(200),
    callback_queue varchar(200),
    depends_on mediumtext,
    depends_on_policy varchar(16) not null default 'success',
    bound_attempt bigint,
    parent_id bigint,
    run_after bigint,
    expires bigint,
    created_by varchar(200),
    user_id varchar(200),
    tenant_id varchar(200),
    reply_to mediumtext,
    unique_key varchar(200),
    unique_until varchar(16) not null default 'finish',
    concurrency_key varchar(200),
    args mediumtext,
    trace_id text,
    rerun_after_crash boolean not null default true,
    -- what indexes need: kept by the statements, as generated columns took 100 us of each insert
    turn bigint not null default 0,             -- -priority: MariaDB 10.6 has no descending indexes
    expiring bigint,                            -- `expires`, as long as no attempt has begun
    lane_held varchar(200),                     -- `lane` and `lane_key`, while nothing holds the job up
    key_held varchar(200),
    unique key job_ref (ref_id),
    unique key job_unique (command, held_key),
    key job_claimable (claim_queue, claim_command, turn, id),
    key job_owned (owner, cancel_requested),
    key job_due (hold, run_after),
    key job_expires (expiring),
    -- A lane has one holder: the database itself sees to it.
    unique key job_lane_holder (lane_held),
    key job_lane_waiting (lane, hold, turn, id),
    unique key job_key_holder (key_held),
    key job_key_waiting (lane_key, hold, turn, id)
) engine=InnoDB row_format=dynamic default character set utf8mb4 collate {collation};

-- Finished runs of jobs, in a partition for each month of creation (UTC), so that a month goes by dropping one partition.
-- A month without a partition is an error, and is made then: the empty one is there since one must be.
create table if not exists {prefix}finished (
    id bigint not null,
    run integer not null default 0,
    month integer not null,                     -- 202611
    created bigint not null,
    ref_id varchar(200) not null,
    command varchar(200) not null,
    request mediumtext,
    request_body mediumtext,
    queue varchar(200) not null default 'default',
    priority bigint not null default 0,
    retry_limit bigint not null default 2,
    timeout double default 600.0,
    state varchar(16) not null default 'Completed',
    parents_left integer not null default 0,
    lane varchar(200),
    lane_key varchar(200),
    suspect boolean not null default false,
    attempts bigint not null default 0,
    attempts_returned bigint not null default 0,
    callback_attempts bigint not null default 0,
    callback_returned bigint not null default 0,
    crashes integer not null default 0,
    started bigint,
    completed bigint,
    notified bigint,
    last_activity bigint,
    duration_ms bigint not null default 0,
    progress double,
    status mediumtext,
    response mediumtext,
    response_body mediumtext,
    error mediumtext,
    error_code text,
    error_message mediumtext,
    overrunning bigint,
    cancel_requested bigint,
    cancelled_by text,
    node text,
    meta mediumtext,
    history mediumtext,
    work_done boolean not null default false,
    request_type varchar(16) not null default 'CMD',
    worker varchar(200),
    tags mediumtext,
    batch_id varchar(200),
    callback varchar(200),
    callback_queue varchar(200),
    depends_on mediumtext,
    depends_on_policy varchar(16) not null default 'success',
    bound_attempt bigint,
    parent_id bigint,
    run_after bigint,
    expires bigint,
    created_by varchar(200),
    user_id varchar(200),
    tenant_id varchar(200),
    reply_to mediumtext,
    unique_key varchar(200),
    unique_until varchar(16) not null default 'finish',
    concurrency_key varchar(200),
    args mediumtext,
    trace_id text,
    rerun_after_crash boolean not null default true,
    primary key (id, run, month),
    key finished_end (month, last_activity)     -- when a month's last job has ended tells whether it may be dropped
) engine=InnoDB row_format=dynamic default character set utf8mb4 collate {collation}
partition by list (month) (partition nothing values in (0));

-- What stays of a job that has ended, as long as its month does.
create table if not exists {prefix}job_summary (
    id bigint not null primary key,
    ref_id varchar(200) not null,
    command varchar(200) not null,
    month integer not null,
    created bigint not null,
    state varchar(16) not null default 'Completed',
    started bigint,
    completed bigint,
    duration_ms bigint not null default 0,
    attempts bigint not null default 0,
    callback_attempts bigint not null default 0,
    run integer not null default 0,
    queue varchar(200) not null default 'default',
    worker varchar(200),
    tags mediumtext,
    batch_id varchar(200),
    parent_id bigint,
    created_by varchar(200),
    user_id varchar(200),
    tenant_id varchar(200),
    error_code text,
    error_message mediumtext,
    args mediumtext,
    key summary_month (month),
    key summary_ref (ref_id),
    key summary_state (state),
    key summary_batch (batch_id),
    key summary_parent (parent_id),
    key summary_user (user_id)
) engine=InnoDB row_format=dynamic default character set utf8mb4 collate {collation};

-- Log lines, by the month in which their job was created.
create table if not exists {prefix}log (
    job_id bigint not null,
    month integer not null,
    sequence integer not null,
    attempt bigint not null,
    at bigint not null,
    level text not null,
    logger text not null,
    message mediumtext not null,
    exception mediumtext,
    primary key (job_id, month, sequence)
) engine=InnoDB row_format=dynamic default character set utf8mb4 collate {collation}
partition by list (month) (partition nothing values in (0));

-- Who waits for whom. A row goes when its parent lets the child go on; it stays if the child was cancelled.
create table if not exists {prefix}dependency (
    parent_id bigint not null,
    child_id bigint not null,
    bound_attempt bigint,                       -- the child belongs to this attempt of the parent
    cancelled boolean not null default false,   -- the child was cancelled since the parent did not succeed
    primary key (parent_id, child_id)
) engine=InnoDB default character set utf8mb4 collate {collation};

-- Jobs that have ended with more dependents than one transaction could follow.
create table if not exists {prefix}unfollowed (
    parent_id bigint not null primary key,
    state varchar(16) not null
) engine=InnoDB default character set utf8mb4 collate {collation};

-- Rows that stand for what is locked: lanes by their numbers, and -1 for the rescue. MySQL's own named locks are not
-- released with the transaction.
create table if not exists {prefix}turnstile (
    number integer not null primary key
) engine=InnoDB;

insert ignore into {prefix}turnstile (number)
with recursive entry (number) as (select -1 union all select number + 1 from entry where number < 255)
select number from entry;

-- The highest id of a job whose summary was dropped.
create table if not exists {prefix}forgotten (
    highest bigint not null
) engine=InnoDB;

-- One start of one process. `seen` is the database's own time of its last sign of life, and all that leases go by.
create table if not exists {prefix}node (
    number bigint not null auto_increment primary key,
    id varchar(200) not null,
    name text not null,
    pid bigint not null,
    version text not null,
    started bigint not null,
    heartbeat bigint not null,
    stopped bigint,
    draining boolean not null,
    executing boolean not null,
    standby boolean not null,
    running bigint not null,
    concurrency bigint not null,
    queues mediumtext,
    commands mediumtext,
    machine text,                               -- boot id and pid namespace: where `pid` means something
    lease bigint not null,                      -- microseconds of silence after which it is dead
    seen bigint not null,
    lost boolean not null default false         -- it was found dead: it owns nothing any more, whatever it believes
) engine=InnoDB default character set utf8mb4 collate {collation};

-- Executions counted by the hour, by each node for itself: rows that several nodes write make them wait for each other.
create table if not exists {prefix}tally (
    hour bigint not null,
    kind varchar(16) not null,
    command varchar(200) not null,
    worker varchar(200) not null,
    queue varchar(200) not null,
    outcome varchar(16) not null,
    node bigint not null,
    count bigint not null,
    time_ms double not null,
    histogram mediumtext not null,
    primary key (hour, kind, command, worker, queue, outcome, node)
) engine=InnoDB default character set utf8mb4 collate {collation};
