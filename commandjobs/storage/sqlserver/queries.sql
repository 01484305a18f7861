-- Statements on SQL Server, in the order of a job's life. Their text never changes, so that each is planned once.
--
-- Everything that is many comes as one JSON document, read by `openjson`. Each parameter is declared as a variable of the
-- type that parameters.py names, so that a NULL or a longer text makes no other statement of it.
-- `inner loop join` keeps the order that is written here: first what was asked for, then each row by its key, in the order
-- of ids. Left to itself the optimizer may read, and lock, a whole table for a few rows.
-- Locks: rows by id, then lanes; whoever finds a row locked by somebody else while it has a lane goes around it (readpast).
-- What locks reads the newest version of a row (readcommittedlock); what only looks reads the last committed one.

-- fragment: exact
collate Latin1_General_100_BIN2

-- fragment: ids
openjson(:ids) with (asked bigint '$') as given

-- fragment: job_columns
id, ref_id, command, created, request, request_body, queue, priority, retry_limit, timeout,
owner, state, hold, parents_left, lane, lane_key, suspect, run,
attempts, attempts_returned, callback_attempts, callback_returned, crashes,
started, completed, notified, last_activity, duration_ms, progress, status,
response, response_body, error, error_code, error_message,
overrunning, cancel_requested, cancelled_by, node, meta, history, work_done,
request_type, worker, tags, batch_id, callback, callback_queue,
depends_on, depends_on_policy, bound_attempt, parent_id, run_after, expires,
created_by, user_id, tenant_id, reply_to, unique_key, unique_until, concurrency_key,
args, trace_id, rerun_after_crash

-- fragment: summary_columns
id, ref_id, command, state, created, started, completed, duration_ms, attempts, worker, queue, tags, batch_id,
created_by, user_id, error_code, error_message, run

-- fragment: finished_columns
id, ref_id, command, created, request, request_body, queue, priority, retry_limit, timeout,
null, state, null, parents_left, lane, lane_key, suspect, run,
attempts, attempts_returned, callback_attempts, callback_returned, crashes,
started, completed, notified, last_activity, duration_ms, progress, status,
response, response_body, error, error_code, error_message,
overrunning, cancel_requested, cancelled_by, node, meta, history, work_done,
request_type, worker, tags, batch_id, callback, callback_queue,
depends_on, depends_on_policy, bound_attempt, parent_id, run_after, expires,
created_by, user_id, tenant_id, reply_to, unique_key, unique_until, concurrency_key,
args, trace_id, rerun_after_crash

-- fragment: new_columns
id, ref_id, command, created, request, request_body, queue, priority, retry_limit, timeout, claim_queue, claim_command,
held_key, owner, token, state, hold, parents_left, lane, lane_key, suspect, run, attempts, attempts_returned,
callback_attempts, callback_returned, crashes, started, completed, notified, last_activity, duration_ms, progress,
status, response, response_body, error, error_code, error_message, overrunning, cancel_requested, cancelled_by, node,
meta, history, work_done, request_type, worker, tags, batch_id, callback, callback_queue, depends_on,
depends_on_policy, bound_attempt, parent_id, run_after, expires, created_by, user_id, tenant_id, reply_to, unique_key,
unique_until, concurrency_key, args, trace_id, rerun_after_crash, has_dependents

-- fragment: new_values
new.ref_id, new.command, new.created, new.request, new.request_body, coalesce(new.queue, N'default'),
coalesce(new.priority, 0), coalesce(new.retry_limit, 2), new.timeout, new.claim_queue, new.claim_command,
new.held_key, new.owner, new.token, coalesce(new.state, N'Queued'), new.hold, coalesce(new.parents_left, 0), new.lane,
new.lane_key, coalesce(new.suspect, 0), coalesce(new.run, 0), coalesce(new.attempts, 0),
coalesce(new.attempts_returned, 0), coalesce(new.callback_attempts, 0), coalesce(new.callback_returned, 0),
coalesce(new.crashes, 0), new.started, new.completed, new.notified, new.last_activity, coalesce(new.duration_ms, 0),
new.progress, new.status, new.response, new.response_body, new.error, new.error_code, new.error_message,
new.overrunning, new.cancel_requested, new.cancelled_by, new.node, new.meta, new.history, coalesce(new.work_done, 0),
coalesce(new.request_type, N'CMD'), new.worker, new.tags, new.batch_id, new.callback, new.callback_queue,
new.depends_on, coalesce(new.depends_on_policy, N'success'), new.bound_attempt, new.parent_id, new.run_after,
new.expires, new.created_by, new.user_id, new.tenant_id, new.reply_to, new.unique_key,
coalesce(new.unique_until, N'finish'), new.concurrency_key, new.args, new.trace_id, coalesce(new.rerun_after_crash, 1)

-- fragment: new_rows
openjson(:rows) with (
    place int, id bigint, ref_id nvarchar(400), command nvarchar(400), created bigint, request nvarchar(max),
    request_body nvarchar(max), queue nvarchar(400), priority bigint, retry_limit bigint, timeout float,
    claim_queue nvarchar(400), claim_command nvarchar(400), held_key nvarchar(400), owner bigint, token bigint,
    state nvarchar(20), hold smallint, parents_left int, lane nvarchar(400), lane_key nvarchar(400), suspect bit, run int,
    attempts bigint, attempts_returned bigint, callback_attempts bigint, callback_returned bigint, crashes int,
    started bigint, completed bigint, notified bigint, last_activity bigint, duration_ms bigint, progress float,
    status nvarchar(max), response nvarchar(max), response_body nvarchar(max), error nvarchar(max),
    error_code nvarchar(max), error_message nvarchar(max), overrunning bigint, cancel_requested bigint,
    cancelled_by nvarchar(max), node nvarchar(max), meta nvarchar(max), history nvarchar(max), work_done bit,
    request_type nvarchar(20), worker nvarchar(400), tags nvarchar(max), batch_id nvarchar(400), callback nvarchar(400),
    callback_queue nvarchar(400), depends_on nvarchar(max), depends_on_policy nvarchar(20), bound_attempt bigint,
    parent_id bigint, run_after bigint, expires bigint, created_by nvarchar(400), user_id nvarchar(400),
    tenant_id nvarchar(400), reply_to nvarchar(max), unique_key nvarchar(400), unique_until nvarchar(20),
    concurrency_key nvarchar(400), args nvarchar(max), trace_id nvarchar(max), rerun_after_crash bit
) as new

-- fragment: whole_rows
openjson(:rows) with (
    id bigint, ref_id nvarchar(400), command nvarchar(400), created bigint, request nvarchar(max),
    request_body nvarchar(max), queue nvarchar(400), priority bigint, retry_limit bigint, timeout float,
    claim_queue nvarchar(400), claim_command nvarchar(400), held_key nvarchar(400), owner bigint,
    state nvarchar(20), hold smallint, parents_left int, lane nvarchar(400), lane_key nvarchar(400), suspect bit, run int,
    attempts bigint, attempts_returned bigint, callback_attempts bigint, callback_returned bigint, crashes int,
    started bigint, completed bigint, notified bigint, last_activity bigint, duration_ms bigint, progress float,
    status nvarchar(max), response nvarchar(max), response_body nvarchar(max), error nvarchar(max),
    error_code nvarchar(max), error_message nvarchar(max), overrunning bigint, cancel_requested bigint,
    cancelled_by nvarchar(max), node nvarchar(max), meta nvarchar(max), history nvarchar(max), work_done bit,
    request_type nvarchar(20), worker nvarchar(400), tags nvarchar(max), batch_id nvarchar(400), callback nvarchar(400),
    callback_queue nvarchar(400), depends_on nvarchar(max), depends_on_policy nvarchar(20), bound_attempt bigint,
    parent_id bigint, run_after bigint, expires bigint, created_by nvarchar(400), user_id nvarchar(400),
    tenant_id nvarchar(400), reply_to nvarchar(max), unique_key nvarchar(400), unique_until nvarchar(20),
    concurrency_key nvarchar(400), args nvarchar(max), trace_id nvarchar(max), rerun_after_crash bit, begun bit
) as new

-- fragment: changed_rows
openjson(:rows) with (
    id bigint, owner bigint, state nvarchar(20), hold smallint, parents_left int, lane nvarchar(400),
    lane_key nvarchar(400), suspect bit, attempts bigint, attempts_returned bigint, callback_attempts bigint,
    callback_returned bigint, crashes int, started bigint, completed bigint, notified bigint, last_activity bigint,
    duration_ms bigint, progress float, status nvarchar(max), response nvarchar(max), response_body nvarchar(max),
    error nvarchar(max), error_code nvarchar(max), error_message nvarchar(max), overrunning bigint,
    cancel_requested bigint, cancelled_by nvarchar(max), node nvarchar(max), meta nvarchar(max), history nvarchar(max),
    work_done bit, callback_queue nvarchar(400), run_after bigint, priority bigint, queue nvarchar(400),
    claim_queue nvarchar(400), claim_command nvarchar(400), keeps_key bit
) as new

-- fragment: edges
openjson(:rows) with (parent_id bigint, child_id bigint) as told

-- fragment: now
datediff_big(microsecond, cast('1970-01-01' as datetime2), sysutcdatetime())

-- ── insert ──────────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: insert_jobs
-- New jobs with any columns; their ids are in the order of `place`.
insert into {schema}.job ({new_columns})
output inserted.id
select next value for {schema}.job_ids over (order by new.place), {new_values}, 0
from {new_rows};

-- name: insert_again
-- Requeued jobs, under the ids they had.
insert into {schema}.job ({new_columns})
output inserted.id
select new.id, {new_values}, 1
from {new_rows};

-- name: insert_simple
-- New jobs that wait for nothing but their claim: what they have not got is at its default, and they are claimed without
-- a look at it.
insert into {schema}.job (
    id, ref_id, command, created, request, request_body, queue, priority, retry_limit, timeout, claim_queue, claim_command,
    owner, token, rerun_after_crash, common
)
output inserted.id
select
    next value for {schema}.job_ids over (order by new.place), new.ref_id, new.command, new.created, new.request,
    new.request_body, coalesce(new.queue, N'default'), coalesce(new.priority, 0), coalesce(new.retry_limit, 2),
    new.timeout, new.claim_queue, new.claim_command, new.owner, new.token, coalesce(new.rerun_after_crash, 1),
    coalesce(new.rerun_after_crash, 1)
from openjson(:rows) with (
    place int, ref_id nvarchar(400), command nvarchar(400), created bigint, request nvarchar(max),
    request_body nvarchar(max), queue nvarchar(400), priority bigint, retry_limit bigint, timeout float,
    claim_queue nvarchar(400), claim_command nvarchar(400), owner bigint, token bigint, rerun_after_crash bit
) as new;

-- name: taken_refs
-- Which of these ref ids exist, live or finished, and whose they are.
select ref_id, id from {schema}.job
where ref_id in (select asked {exact} from openjson(:refs) with (asked nvarchar(400) '$') as given)
union all
select ref_id, id from {schema}.job_summary
where given_up = 0 and ref_id in (select asked {exact} from openjson(:refs) with (asked nvarchar(400) '$') as given);

-- name: finished_refs
-- The same among finished jobs only: should one have run and ended between the look and the insert.
select ref_id from {schema}.job_summary
where given_up = 0 and ref_id in (select asked {exact} from openjson(:refs) with (asked nvarchar(400) '$') as given);

-- name: key_holders
-- The unfinished jobs that keep others of their command from unique keys. The n-th key is one of the n-th command.
select job.command, job.held_key, job.id, job.ref_id
from openjson(:commands) as command
inner join openjson(:keys) as held on held.[key] = command.[key]
inner join {schema}.job as job
    on job.command = convert(nvarchar(400), command.value) {exact}
   and job.held_key = convert(nvarchar(400), held.value) {exact}
where job.held_key is not null;

-- name: note_dependents
-- From now on the end of these jobs is not theirs alone.
update job set has_dependents = 1
from {ids} inner loop join {schema}.job as job with (rowlock) on job.id = given.asked
where job.has_dependents = 0;

-- name: lock_parents
-- Live jobs that new ones depend on; they do not end before this transaction has.
select job.id, job.state, job.attempts, job.callback_attempts, job.owner
from {ids} inner loop join {schema}.job as job with (repeatableread, rowlock) on job.id = given.asked
order by given.asked;

-- name: finished_parents
-- Those that have ended.
select id, state, attempts, callback_attempts, null from {schema}.job_summary where id in (select asked from {ids});

-- name: depend
-- A child waits for a parent, or was cancelled because of it.
delete dependency from {edges} inner loop join {schema}.dependency as dependency with (rowlock)
    on dependency.parent_id = told.parent_id and dependency.child_id = told.child_id;
insert into {schema}.dependency (parent_id, child_id, bound_attempt, cancelled)
select parent_id, child_id, bound_attempt, cancelled
from openjson(:rows) with (parent_id bigint, child_id bigint, bound_attempt bigint, cancelled bit) as new;

-- name: lock_summaries
-- Jobs to be requeued, if these runs of them are the ones that have ended.
select summary.id, summary.ref_id
from openjson(:rows) with (id bigint, run int) as wanted
inner loop join {schema}.job_summary as summary with (updlock, rowlock, readcommittedlock)
    on summary.id = wanted.id and summary.run = wanted.run
order by wanted.id;

-- name: delete_summaries
-- These jobs are live again.
delete summary from {ids} inner loop join {schema}.job_summary as summary with (rowlock) on summary.id = given.asked;

-- ── claim and start ─────────────────────────────────────────────────────────────────────────────────────────────────

-- fragment: kinds
kind (kind) as (
    select min(claim_kind) from {schema}.job where claim_queue is not null
    union all
    select later.claim_kind from (
        select job.claim_kind, row_number() over (order by job.claim_kind) as place
        from kind inner join {schema}.job as job on job.claim_kind > kind.kind
        where job.claim_queue is not null
    ) as later
    where later.place = 1
),
known (kind, queue, command) as (
    select kind.kind, sample.claim_queue, sample.claim_command
    from kind cross apply (
        select top (1) job.claim_queue, job.claim_command from {schema}.job as job
        where job.claim_kind = kind.kind and job.claim_queue is not null
    ) as sample
)

-- name: claim
-- Own the best claimable jobs of the queues and commands asked for: `queues` have room for `rooms`, all others for
-- `other`. The kinds of jobs there are come from stepping over the claim index, so that what nobody here knows or has
-- room for costs nothing, however many there are. (A recursive part may hold no "top"; its row_number is cut off at the
-- first row just so.) A node that was found dead gets nothing.
with {kinds},
wanted (kind, queue, command, most) as (
    select known.kind, known.queue, known.command, coalesce(room.most, :other)
    from known
    left join (
        select name.value {exact} as queue, convert(bigint, number.value) as most
        from openjson(:queues) as name inner join openjson(:rooms) as number on number.[key] = name.[key]
    ) as room on room.queue = known.queue
    where known.command in (select asked {exact} from openjson(:commands) with (asked nvarchar(400) '$') as given)
      and (
          :served is null
          or known.queue in (select asked {exact} from openjson(:served) with (asked nvarchar(400) '$') as given)
      )
      and coalesce(room.most, :other) > 0
      and exists (select 1 from {schema}.node where number = :owner and stopped is null and lost = 0)
),
candidate (id, queue, most, place) as (
    select best.id, wanted.queue, wanted.most,
           row_number() over (partition by wanted.queue order by best.priority desc, best.id)
    from wanted cross apply (
        select top (wanted.most) job.id, job.priority
        from {schema}.job as job with (updlock, readpast, rowlock, readcommittedlock)
        where job.claim_kind = wanted.kind and job.claim_queue is not null
          and job.claim_queue = wanted.queue and job.claim_command = wanted.command
          and (job.expires is null or job.attempts > 0 or job.expires > :now)
        order by job.priority desc, job.id
    ) as best
)
update job set owner = :owner, token = :token, claim_queue = null, claim_command = null, begun = 0
output inserted.id, inserted.ref_id, inserted.command, inserted.created, inserted.request, inserted.request_body,
       inserted.queue, inserted.priority, inserted.retry_limit, inserted.timeout, inserted.common
from candidate inner loop join {schema}.job as job with (rowlock) on job.id = candidate.id
where candidate.place <= candidate.most
option (maxrecursion 0);

-- name: claimed_by
-- What one call of an owner has claimed: asked when its answer was lost.
select {job_columns} from {schema}.job where owner = :owner and token = :token and begun = 0 order by id;

-- name: read_jobs
-- Whole rows.
select {job_columns} from {schema}.job where id in (select asked from {ids}) order by id;

-- name: lock_jobs
-- The same, and nobody else changes them before this transaction has ended.
select {job_columns} from {ids} inner loop join {schema}.job with (updlock, rowlock, readcommittedlock) on id = asked
order by asked;

-- name: mark_started
-- The start of attempts. A key that is only held until the start is free.
update job set state = new.state, attempts = new.attempts, callback_attempts = new.callback_attempts,
    started = new.started, last_activity = new.last_activity, node = new.node, suspect = coalesce(new.suspect, 0),
    progress = new.progress, status = new.status, begun = 1, common = 0,
    held_key = case when job.unique_until = N'start' then null else job.held_key end
output inserted.id
from openjson(:rows) with (
    id bigint, owner bigint, state nvarchar(20), attempts bigint, callback_attempts bigint, started bigint,
    last_activity bigint, node nvarchar(max), suspect bit, progress float, status nvarchar(max)
) as new
inner loop join {schema}.job as job with (rowlock) on job.id = new.id and job.owner = new.owner;

-- name: begun_among
-- Which of these jobs their owners have started.
select id from {schema}.job where id in (select asked from {ids}) and begun = 1;

-- name: report
-- The newest progress and sign of life.
update job set progress = new.progress, status = new.status, last_activity = new.[at],
    overrunning = new.overrunning, common = 0
from openjson(:rows) with (
    id bigint, owner bigint, progress float, status nvarchar(max), [at] bigint, overrunning bigint
) as new
inner loop join {schema}.job as job with (rowlock) on job.id = new.id and job.owner = new.owner;

-- ── settle ──────────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: held
-- Who owns these jobs now, which lanes they hold, who waits for them, and whether somebody wants them cancelled.
select id, owner, lane, lane_key, cancel_requested, cancelled_by, has_dependents
from {ids} inner loop join {schema}.job with (updlock, rowlock, readcommittedlock) on id = asked
order by asked;

-- name: ended_as
-- Which of these jobs have ended, with the run, state and time of their ends: asked when an answer was lost.
select summary.id, summary.run, summary.state, finished.last_activity
from {ids} inner join {schema}.job_summary as summary on summary.id = given.asked
inner join {schema}.finished as finished
    on finished.id = summary.id and finished.run = summary.run and finished.created = summary.created;

-- name: place
-- Who owns waiting jobs, what parks them, and as what they can be claimed.
update job set owner = new.owner, token = new.token, hold = new.hold, parents_left = new.parents_left,
    suspect = new.suspect, claim_queue = new.claim_queue, claim_command = new.claim_command, begun = 0, common = 0
from openjson(:rows) with (
    id bigint, owner bigint, token bigint, hold smallint, parents_left int, suspect bit, claim_queue nvarchar(400),
    claim_command nvarchar(400)
) as new
inner loop join {schema}.job as job with (rowlock) on job.id = new.id;

-- name: rewrite
-- Everything that an attempt or an operator can change of a job.
update job set owner = new.owner, token = null, state = new.state, hold = new.hold,
    parents_left = coalesce(new.parents_left, 0), lane = new.lane, lane_key = new.lane_key,
    suspect = coalesce(new.suspect, 0), attempts = coalesce(new.attempts, 0),
    attempts_returned = coalesce(new.attempts_returned, 0), callback_attempts = coalesce(new.callback_attempts, 0),
    callback_returned = coalesce(new.callback_returned, 0), crashes = coalesce(new.crashes, 0), started = new.started,
    completed = new.completed, notified = new.notified, last_activity = new.last_activity,
    duration_ms = coalesce(new.duration_ms, 0), progress = new.progress, status = new.status, response = new.response,
    response_body = new.response_body, error = new.error, error_code = new.error_code,
    error_message = new.error_message, overrunning = new.overrunning, cancel_requested = new.cancel_requested,
    cancelled_by = new.cancelled_by, node = new.node, meta = new.meta, history = new.history,
    work_done = coalesce(new.work_done, 0), callback_queue = new.callback_queue, run_after = new.run_after,
    priority = coalesce(new.priority, 0), queue = coalesce(new.queue, N'default'), claim_queue = new.claim_queue,
    claim_command = new.claim_command, begun = 0, common = 0,
    held_key = case when new.keeps_key = 1 then job.held_key end
from {changed_rows}
inner loop join {schema}.job as job with (rowlock) on job.id = new.id;

-- name: finish_jobs
-- Finished jobs leave for the archive of their month (YYYY_MM: all of these are of one), and their summaries stay. Their
-- rows are locked, or were written, by this transaction.
insert into {schema}.finished_YYYY_MM (
    id, run, created, ref_id, command, request, request_body, queue, priority, retry_limit, timeout, state,
    parents_left, lane, lane_key, suspect, attempts, attempts_returned, callback_attempts, callback_returned,
    crashes, started, completed, notified, last_activity, duration_ms, progress, status, response, response_body,
    error, error_code, error_message, overrunning, cancel_requested, cancelled_by, node, meta, history, work_done,
    request_type, worker, tags, batch_id, callback, callback_queue, depends_on, depends_on_policy, bound_attempt,
    parent_id, run_after, expires, created_by, user_id, tenant_id, reply_to, unique_key, unique_until,
    concurrency_key, args, trace_id, rerun_after_crash
)
select
    job.id, job.run, job.created, job.ref_id, job.command, job.request, job.request_body,
    coalesce(new.queue, N'default'), coalesce(new.priority, 0), job.retry_limit, job.timeout, new.state,
    coalesce(new.parents_left, 0), new.lane, new.lane_key, coalesce(new.suspect, 0),
    coalesce(new.attempts, 0), coalesce(new.attempts_returned, 0), coalesce(new.callback_attempts, 0),
    coalesce(new.callback_returned, 0), coalesce(new.crashes, 0), new.started, new.completed, new.notified,
    new.last_activity, coalesce(new.duration_ms, 0), new.progress, new.status, new.response, new.response_body,
    new.error, new.error_code, new.error_message, new.overrunning, new.cancel_requested, new.cancelled_by,
    new.node, new.meta, new.history, coalesce(new.work_done, 0), job.request_type, job.worker, job.tags,
    job.batch_id, job.callback, new.callback_queue, job.depends_on, job.depends_on_policy,
    job.bound_attempt, job.parent_id, new.run_after, job.expires, job.created_by, job.user_id,
    job.tenant_id, job.reply_to, job.unique_key, job.unique_until, job.concurrency_key, job.args,
    job.trace_id, job.rerun_after_crash
from {changed_rows} inner loop join {schema}.job as job with (updlock, rowlock, readcommittedlock) on job.id = new.id;
insert into {schema}.job_summary (
    id, ref_id, command, created, state, started, completed, duration_ms, attempts, callback_attempts, run, queue,
    worker, tags, batch_id, parent_id, created_by, user_id, tenant_id, error_code, error_message, args, given_up
)
select
    job.id, job.ref_id, job.command, job.created, new.state, new.started, new.completed,
    coalesce(new.duration_ms, 0), coalesce(new.attempts, 0), coalesce(new.callback_attempts, 0), job.run,
    coalesce(new.queue, N'default'), job.worker, job.tags, job.batch_id, job.parent_id, job.created_by,
    job.user_id, job.tenant_id, new.error_code, new.error_message, job.args,
    case when new.state = N'Cancelled' and new.error_code = N'AttemptFailed' then job.id else 0 end
from {changed_rows} inner loop join {schema}.job as job with (updlock, rowlock, readcommittedlock) on job.id = new.id;
delete job
from openjson(:rows) with (id bigint) as new inner loop join {schema}.job as job with (rowlock) on job.id = new.id;

-- ── dependents ──────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: children
-- Who waits for these jobs.
select top (:most) parent_id, child_id from {schema}.dependency
where parent_id in (select asked from {ids}) and cancelled = 0
order by parent_id, child_id;

-- name: bound_children
-- Who belongs to attempts of jobs.
select dependency.parent_id, dependency.child_id
from openjson(:rows) with (parent_id bigint, attempt bigint) as lost
inner join {schema}.dependency as dependency
    on dependency.parent_id = lost.parent_id and dependency.bound_attempt = lost.attempt
where dependency.bound_attempt is not null and dependency.cancelled = 0
order by dependency.parent_id, dependency.child_id;

-- name: forget_dependencies
-- These children wait for these parents no more.
delete dependency from {edges} inner loop join {schema}.dependency as dependency with (rowlock)
    on dependency.parent_id = told.parent_id and dependency.child_id = told.child_id;

-- name: keep_cancelled
-- These children were cancelled because of these parents.
update dependency set cancelled = 1
from {edges} inner loop join {schema}.dependency as dependency with (rowlock)
    on dependency.parent_id = told.parent_id and dependency.child_id = told.child_id;

-- name: follow_later
-- More dependents than one transaction may hold.
delete marker from openjson(:rows) with (parent_id bigint) as new
inner loop join {schema}.unfollowed as marker with (rowlock) on marker.parent_id = new.parent_id;
insert into {schema}.unfollowed (parent_id, state)
select parent_id, state from openjson(:rows) with (parent_id bigint, state nvarchar(20)) as new;

-- name: unfollowed
-- Whose dependents are still to be told.
select top (:most) parent_id, state from {schema}.unfollowed with (updlock, readpast, rowlock, readcommittedlock)
order by parent_id;

-- name: followed
-- They are told, or a new marker is written in the same transaction.
delete marker from {ids} inner loop join {schema}.unfollowed as marker with (rowlock) on marker.parent_id = given.asked;

-- ── lanes ───────────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: lock_lanes
-- Nobody else elects in these lanes before this transaction has ended. (A lane's name is one of a few numbers here: a
-- table of lanes would have to be cleared of those that nobody uses any more.)
select mutex.number
from openjson(:numbers) with (asked int '$') as given
inner loop join {schema}.mutex as mutex with (updlock, rowlock, readcommittedlock) on mutex.number = given.asked
order by given.asked;

-- name: try_lock_lanes
-- The same without waiting, for lanes that come up late: waiting out of turn could be for ever. Those that somebody else
-- has are passed over, so that fewer come back than were asked for.
select case when count(mutex.number) = count(*) then 1 else 0 end
from openjson(:numbers) with (asked int '$') as given
left loop join {schema}.mutex as mutex with (updlock, readpast, rowlock, readcommittedlock)
    on mutex.number = given.asked;

-- name: lane_holders
-- The jobs that have these lanes: owned, or claimable.
select id, owner, priority, lane, lane_key, state, command, queue, callback, callback_queue from {schema}.job
where lane in (select asked {exact} from openjson(:workers) with (asked nvarchar(400) '$') as given)
  and lane is not null and hold is null
union
select id, owner, priority, lane, lane_key, state, command, queue, callback, callback_queue from {schema}.job
where lane_key in (select asked {exact} from openjson(:keys) with (asked nvarchar(400) '$') as given)
  and lane_key is not null and hold is null;

-- name: lane_waiting
-- Who waits for these lanes, best first, as many as are asked for of each.
select N'worker', best.id, best.owner, best.priority, best.lane, best.lane_key, best.state, best.command, best.queue,
       best.callback, best.callback_queue
from openjson(:workers) with (asked nvarchar(400) '$') as wanted
cross apply (
    select top (:most) id, owner, priority, lane, lane_key, state, command, queue, callback, callback_queue
    from {schema}.job where lane = wanted.asked {exact} and hold = 3 and lane is not null
    order by priority desc, id
) as best
union all
select N'key', best.id, best.owner, best.priority, best.lane, best.lane_key, best.state, best.command, best.queue,
       best.callback, best.callback_queue
from openjson(:keys) with (asked nvarchar(400) '$') as wanted
cross apply (
    select top (:most) id, owner, priority, lane, lane_key, state, command, queue, callback, callback_queue
    from {schema}.job where lane_key = wanted.asked {exact} and hold = 3 and lane_key is not null
    order by priority desc, id
) as best;

-- name: seat
-- Waiting jobs get their lanes, except those that somebody is changing now: he looks at their lanes himself.
update job set owner = new.owner, token = new.token, hold = null, claim_queue = new.claim_queue,
    claim_command = new.claim_command, begun = 0, common = 0
output inserted.id
from openjson(:rows) with (
    id bigint, owner bigint, token bigint, claim_queue nvarchar(400), claim_command nvarchar(400)
) as new
inner loop join {schema}.job as job with (updlock, readpast, rowlock, readcommittedlock) on job.id = new.id
where job.hold = 3;

-- name: unseat
-- Claimable jobs give way to better ones, except those that somebody is claiming now.
update job set hold = 3, claim_queue = null, claim_command = null
output inserted.id
from {ids} inner loop join {schema}.job as job with (updlock, readpast, rowlock, readcommittedlock)
    on job.id = given.asked
where job.owner is null and job.hold is null;

-- ── time, operators, dead owners ────────────────────────────────────────────────────────────────────────────────────

-- name: due
-- Jobs whose time has come; another node may be waking some of them.
select top (:most) {job_columns} from {schema}.job with (updlock, readpast, rowlock, readcommittedlock)
where hold = 2 and run_after <= :now order by run_after;

-- name: expired
-- Waiting jobs that were not started in time.
select top (:most) {job_columns} from {schema}.job with (updlock, readpast, rowlock, readcommittedlock)
where expires is not null and attempts = 0 and owner is null and expires <= :now order by expires;

-- name: next_moment
-- When the next one is due or expires.
select min(moment) from (
    values
        ((select min(run_after) from {schema}.job where hold = 2)),
        ((select min(expires) from {schema}.job where expires is not null and attempts = 0 and owner is null))
) as moments (moment);

-- name: request_cancellation
-- The owners of these jobs are to end them.
update job set cancel_requested = new.cancel_requested, cancelled_by = new.cancelled_by, common = 0
from openjson(:rows) with (id bigint, cancel_requested bigint, cancelled_by nvarchar(max)) as new
inner loop join {schema}.job as job with (rowlock) on job.id = new.id;

-- name: finished_among
-- Which of these have ended.
select id from {schema}.job_summary where id in (select asked from {ids});

-- name: try_maintain
-- Whether this transaction may rescue: one node at a time does.
select count(*) from {schema}.mutex with (updlock, readpast, rowlock, readcommittedlock) where number = 256;

-- name: bury
-- Nodes that have been silent for their lease are dead, and stay so.
update {schema}.node set lost = 1, executing = 0, standby = 0
where lost = 0 and stopped is null and seen + lease < {now};

-- name: orphaned
-- Jobs whose owner is dead.
with owner (number) as (
    select min(owner) from {schema}.job where owner is not null
    union all
    select later.owner from (
        select job.owner, row_number() over (order by job.owner) as place
        from owner inner join {schema}.job as job on job.owner > owner.number
        where job.owner is not null
    ) as later
    where later.place = 1
)
select top (:most) job.id, job.begun
from owner inner loop join {schema}.job as job on job.owner = owner.number
where job.owner is not null and not exists (
    select 1 from {schema}.node where node.number = owner.number and node.stopped is null and node.lost = 0
)
option (maxrecursion 0);

-- ── counts ──────────────────────────────────────────────────────────────────────────────────────────────────────────

-- fragment: counted
openjson(:rows) with (
    hour bigint, kind nvarchar(40), command nvarchar(400), worker nvarchar(400), queue nvarchar(400),
    outcome nvarchar(40), node bigint, [count] bigint, time_ms float, histogram nvarchar(max)
) as new

-- name: write_tallies
-- What a node has counted in an hour so far: what it wrote before is taken away. Nobody else writes rows of this node.
delete tally from {counted} inner loop join {schema}.tally as tally with (rowlock)
    on tally.hour = new.hour and tally.node = new.node and tally.kind = new.kind {exact}
   and tally.command = new.command {exact} and tally.worker = new.worker {exact} and tally.queue = new.queue {exact}
   and tally.outcome = new.outcome {exact};
insert into {schema}.tally (hour, kind, command, worker, queue, outcome, node, [count], time_ms, histogram)
select hour, kind, command, worker, queue, outcome, node, [count], time_ms, histogram from {counted};

-- ── logs ────────────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: append_logs
-- Lines of jobs of one month (YYYY_MM) get the next numbers of their jobs.
insert into {schema}.log_YYYY_MM (job_id, sequence, created, attempt, [at], level, logger, message, exception)
select new.job_id, last.sequence + row_number() over (partition by new.job_id order by new.place), new.created,
       new.attempt, new.[at], new.level, new.logger, new.message, new.exception
from openjson(:rows) with (
    job_id bigint, place int, created bigint, attempt bigint, [at] bigint, level nvarchar(40), logger nvarchar(max),
    message nvarchar(max), exception nvarchar(max)
) as new
cross apply (
    select coalesce(max(line.sequence), 0) as sequence from {schema}.log_YYYY_MM as line where line.job_id = new.job_id
) as last;

-- ── processes ───────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: add_node
-- A process has started.
insert into {schema}.node (id, name, pid, version, started, heartbeat, stopped, draining, executing, standby, running,
    concurrency, queues, commands, machine, lease, seen)
output inserted.number
select id, name, pid, version, started, heartbeat, stopped, draining, executing, standby, running, concurrency, queues,
       commands, machine, lease, {now}
from openjson(:rows) with (
    id nvarchar(400), name nvarchar(max), pid bigint, version nvarchar(400), started bigint, heartbeat bigint,
    stopped bigint, draining bit, executing bit, standby bit, running bigint, concurrency bigint, queues nvarchar(max),
    commands nvarchar(max), machine nvarchar(400), lease bigint
) as new;

-- name: keep_node
-- What a process says of itself. One that was found dead stays so.
update {schema}.node set heartbeat = :heartbeat, stopped = coalesce(stopped, :stopped), draining = :draining,
    executing = case when lost = 0 then :executing else 0 end, standby = case when lost = 0 then :standby else 0 end,
    running = :running, concurrency = :concurrency, queues = :queues, commands = :commands,
    seen = case when lost = 1 then seen else {now} end
where number = :number;

-- name: renew_lease
-- A process lives; nothing comes back if it was found dead.
update {schema}.node set seen = {now} output inserted.number where number = :number and lost = 0;

-- name: forget_nodes
-- Processes that stopped, or were last heard of, long ago, and own nothing.
delete from {schema}.node
where coalesce(stopped, heartbeat) < :before
  and not exists (select 1 from {schema}.job as job where job.owner = node.number and job.owner is not null);

-- name: nodes
-- All processes known; one that was found dead ended with its last heartbeat.
select number, id, name, pid, version, started, heartbeat, case when lost = 1 then coalesce(stopped, heartbeat) else stopped
       end, draining, executing, standby, running, concurrency, queues, commands
from {schema}.node order by number;

-- name: neighbours
-- Other processes of this machine that have not said that they stopped.
select number, pid from {schema}.node
where machine = :machine and number <> :number and stopped is null and lost = 0;

-- name: bury_nodes
-- These processes are gone.
update {schema}.node set lost = 1, executing = 0, standby = 0
where number in (select asked from openjson(:numbers) with (asked bigint '$') as given);

-- name: owned
-- What a process owns.
select id from {schema}.job where owner = :owner and owner is not null;

-- name: disown
-- Jobs of a process that it knows nothing of.
update job set owner = :grave
from {ids} inner loop join {schema}.job as job with (rowlock) on job.id = given.asked
where job.owner = :owner;

-- name: cancellations
-- Jobs of an owner that somebody wants to end.
select id, cancelled_by from {schema}.job where owner = :owner and owner is not null and cancel_requested is not null;

-- name: stirred
-- Whether there is anything due, or left to sweep.
select case
    when exists (select 1 from {schema}.job where hold = 2 and run_after <= {now}) then 1
    when exists (select 1 from {schema}.unfollowed) then 1
    else 0
end;

-- name: clock
-- The database's time.
select {now};

-- ── looking ─────────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: id_of_ref
-- The job with a ref id.
select id from {schema}.job where ref_id = :ref
union all
select id from {schema}.job_summary where ref_id = :ref and given_up = 0;

-- name: find_rows
-- Whole rows wherever they are, and first whether there is one: of a dropped month only the summary is left.
select 1, {job_columns} from {schema}.job where id in (select asked from {ids})
union all
select case when finished.id is null then 0 else 1 end,
    summary.id, summary.ref_id, summary.command, summary.created, finished.request, finished.request_body,
    summary.queue, coalesce(finished.priority, 0), coalesce(finished.retry_limit, 2), finished.timeout,
    null, summary.state, null, coalesce(finished.parents_left, 0), finished.lane, finished.lane_key,
    coalesce(finished.suspect, 0), summary.run,
    summary.attempts, coalesce(finished.attempts_returned, 0), summary.callback_attempts,
    coalesce(finished.callback_returned, 0), coalesce(finished.crashes, 0),
    summary.started, summary.completed, finished.notified, finished.last_activity, summary.duration_ms,
    finished.progress, finished.status,
    finished.response, finished.response_body, finished.error, summary.error_code, summary.error_message,
    finished.overrunning, finished.cancel_requested, finished.cancelled_by, finished.node, finished.meta,
    finished.history, coalesce(finished.work_done, 0),
    coalesce(finished.request_type, N'CMD'), summary.worker, summary.tags, summary.batch_id, finished.callback,
    finished.callback_queue,
    finished.depends_on, coalesce(finished.depends_on_policy, N'success'), finished.bound_attempt, summary.parent_id,
    finished.run_after, finished.expires,
    summary.created_by, summary.user_id, summary.tenant_id, finished.reply_to, finished.unique_key,
    coalesce(finished.unique_until, N'finish'), finished.concurrency_key,
    summary.args, finished.trace_id, coalesce(finished.rerun_after_crash, 1)
from {schema}.job_summary as summary left join {schema}.finished as finished
    on finished.id = summary.id and finished.run = summary.run and finished.created = summary.created
where summary.id in (select asked from {ids});

-- name: earlier_runs
-- The archived rows of a job's runs before the newest.
select {finished_columns} from {schema}.finished where id = :id and created = :created and run < :run order by run;

-- name: created
-- When a job was created.
select created from {schema}.job where id = :id
union all
select created from {schema}.job_summary where id = :id;

-- name: logs
-- A piece of a job's log.
select top (:most) sequence, [at], level, logger, message, exception, attempt from {schema}.log
where job_id = :id and created = :created and sequence > :after order by sequence;

-- name: unfinished_among
-- Which of these jobs have not ended, and the highest id there was.
select id from {schema}.job where id in (select asked from {ids})
union all
select -convert(bigint, last_used_value) from sys.sequences
where object_id = object_id(N'{schema}.job_ids') and last_used_value is not null;

-- name: cancelled_dependents
-- Jobs that were cancelled because of this one, as long as anything is known of them.
select child_id from {schema}.dependency
where parent_id = :id and cancelled = 1
  and (exists (select 1 from {schema}.job_summary as summary where summary.id = child_id)
       or exists (select 1 from {schema}.job as job where job.id = child_id))
order by child_id;

-- name: lanes
-- Live jobs by queue and worker.
select queue, worker, sum(case when begun = 0 then 1 else 0 end),
       sum(case when begun = 0 and (hold is null or hold = 3) then 1 else 0 end),
       sum(case when begun = 1 then 1 else 0 end),
       min(case
           when begun = 1 or hold in (1, 2) then null
           when run_after > created then run_after
           else created
       end)
from {schema}.job group by queue, worker order by queue, worker;

-- name: claimable_kinds
-- Queues and commands of claimable jobs, by stepping over the claim index.
with {kinds}
select queue, command from known option (maxrecursion 0);

-- name: tallies
-- What was counted since.
select hour, kind, command, worker, queue, outcome, [count], time_ms, histogram from {schema}.tally where hour >= :since;

-- ── months ──────────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: newest_ends
-- When the last job of each month has ended; months are told by the n-th first moment, and the n-th next one's.
select convert(int, begins.[key]), (
    select top (1) last_activity from {schema}.finished
    where created >= convert(bigint, begins.value) and created < convert(bigint, ends.value) and last_activity is not null
    order by last_activity desc
)
from openjson(:firsts) as begins inner join openjson(:followings) as ends on ends.[key] = begins.[key];

-- name: summaries_of_month
-- A piece of the jobs created in a month that have ended, by id.
select top (:most) id from {schema}.job_summary where id > :after and created >= :first and created < :following
order by id;

-- name: drop_summaries
-- Jobs that are forgotten.
delete summary from {ids} inner loop join {schema}.job_summary as summary with (rowlock) on summary.id = given.asked;

-- name: drop_dependencies
-- Nobody was cancelled because of them, and they because of nobody, any more.
delete from {schema}.dependency where cancelled = 1 and parent_id in (select asked from {ids});

-- ── moving jobs to another storage, and taking them in ──────────────────────────────────────────────────────────────

-- name: workers
-- Processes that live, and execute or still own a job.
select node.name, node.pid from {schema}.node as node
where node.stopped is null and node.lost = 0 and node.seen + node.lease >= {now}
  and (
      node.executing = 1
      or exists (select 1 from {schema}.job as job where job.owner = node.number and job.owner is not null)
  )
order by node.number;

-- name: contents
-- How many jobs there are, and the highest numbers given to a job and to a process.
select (select count_big(*) from {schema}.job) + (select count_big(*) from {schema}.job_summary),
       coalesce((
           select convert(bigint, last_used_value) from sys.sequences where object_id = object_id(N'{schema}.job_ids')
       ), 0),
       coalesce((
           select convert(bigint, last_value) from sys.identity_columns where object_id = object_id(N'{schema}.node')
       ), 0);

-- name: count_of_month
-- The jobs created in a month that have ended.
select count_big(*) from {schema}.job_summary where created >= :first and created < :following;

-- name: carry_ids
-- The next jobs by id, and whether they are unfinished.
select top (:most) id, ref_id, run, created, is_live from (
    select live.id, live.ref_id, live.run, live.created, 1 as is_live from (
        select top (:most) id, ref_id, run, created from {schema}.job where id > :after order by id
    ) as live
    union all
    select ended.id, ended.ref_id, ended.run, ended.created, 0 as is_live from (
        select top (:most) id, ref_id, run, created from {schema}.job_summary where id > :after order by id
    ) as ended
) as jobs
order by id;

-- name: carry_month_ids
-- The same of jobs created in a month that have ended.
select top (:most) id, ref_id, run, created, 0 from {schema}.job_summary
where id > :after and created >= :first and created < :following order by id;

-- name: carry_runs
-- All finished runs of several jobs.
select {finished_columns} from {schema}.finished
where id between :first and :last and created between :oldest and :newest order by id, run;

-- name: carry_summaries
-- What is left of jobs whose archives are not there; the order is that of `SUMMARY_COLUMNS`.
select id, ref_id, command, created, state, started, completed, duration_ms, attempts, callback_attempts, run, queue,
       worker, tags, batch_id, parent_id, created_by, user_id, tenant_id, error_code, error_message, args
from {schema}.job_summary where id in (select asked from {ids});

-- name: carry_ties
-- What jobs have to do with their parents.
select child_id, parent_id, bound_attempt, cancelled from {schema}.dependency
where parent_id in (select asked from openjson(:parents) with (asked bigint '$') as given)
  and child_id between :first and :last
order by child_id, parent_id;

-- name: carry_logs
-- Lines of several jobs.
select job_id, sequence, attempt, [at], level, logger, message, exception from {schema}.log
where job_id between :first and :last and created between :oldest and :newest order by job_id, sequence;

-- name: copying
-- The copy that is being made here, or was.
select source, run, last_id, source_node, target_node, after, ref_id, done from {schema}.copying;

-- name: lock_copying
-- Who makes it now; nobody else takes it over before this transaction has ended.
select run from {schema}.copying with (updlock, rowlock, readcommittedlock);

-- name: note_copying
-- How far it has come.
delete from {schema}.copying;
insert into {schema}.copying (place, source, run, last_id, source_node, target_node, after, ref_id, done)
values (1, :source, :run, :last_id, :source_node, :target_node, :after, :ref_id, :done);

-- name: last_id
-- The highest id ever given.
select coalesce((
    select convert(bigint, last_used_value) from sys.sequences where object_id = object_id(N'{schema}.job_ids')
), 0);

-- name: lock_inserts
-- Nobody writes a new job before this transaction has ended.
select count(*) from (select top (1) id from {schema}.job with (tablockx, holdlock)) as first_job;

-- name: raise_last_id
-- So many ids are given away at once.
declare @first sql_variant;
exec sys.sp_sequence_get_range @sequence_name = N'{schema}.job_ids', @range_size = :size,
    @range_first_value = @first output;

-- name: refs_of
-- Which of these ids are given to jobs, and to which.
select id, ref_id from {schema}.job where id in (select asked from {ids})
union all
select id, ref_id from {schema}.job_summary where id in (select asked from {ids});

-- name: forget_jobs
-- These jobs come anew.
delete job from {ids} inner loop join {schema}.job as job with (rowlock) on job.id = given.asked;

-- name: archive_tables
-- The tables of finished runs, one a month, by name.
select name from sys.tables
where schema_id = (select schema_id from sys.tables where object_id = object_id(N'{schema}.job'))
  and name like N'finished[_]%';

-- name: forget_runs
-- The same of what lies in a month of the archive.
delete from {schema}.finished_YYYY_MM where id in (select asked from {ids});

-- name: forget_logs
-- The same of their logs.
delete from {schema}.log_YYYY_MM where job_id in (select asked from {ids});

-- name: forget_ties
-- The same of what they have to do with their parents.
delete from {schema}.dependency where child_id in (select asked from {ids});

-- name: load_job
-- Unfinished jobs as they are elsewhere.
insert into {schema}.job (
    id, ref_id, command, created, request, request_body, queue, priority, retry_limit, timeout, owner, state, hold,
    parents_left, lane, lane_key, suspect, run, attempts, attempts_returned, callback_attempts, callback_returned, crashes,
    started, completed, notified, last_activity, duration_ms, progress, status, response, response_body, error,
    error_code, error_message, overrunning, cancel_requested, cancelled_by, node, meta, history, work_done, request_type,
    worker, tags, batch_id, callback, callback_queue, depends_on, depends_on_policy, bound_attempt, parent_id, run_after,
    expires, created_by, user_id, tenant_id, reply_to, unique_key, unique_until, concurrency_key, args, trace_id,
    rerun_after_crash, claim_queue, claim_command, begun, held_key
)
select
    id, ref_id, command, created, request, request_body, queue, priority, retry_limit, timeout, owner, state, hold,
    parents_left, lane, lane_key, suspect, run, attempts, attempts_returned, callback_attempts, callback_returned, crashes,
    started, completed, notified, last_activity, duration_ms, progress, status, response, response_body, error,
    error_code, error_message, overrunning, cancel_requested, cancelled_by, node, meta, history, work_done, request_type,
    worker, tags, batch_id, callback, callback_queue, depends_on, depends_on_policy, bound_attempt, parent_id, run_after,
    expires, created_by, user_id, tenant_id, reply_to, unique_key, unique_until, concurrency_key, args, trace_id,
    rerun_after_crash, claim_queue, claim_command, begun, held_key
from {whole_rows};

-- name: load_finished
-- Finished runs of one month.
insert into {schema}.finished_YYYY_MM (
    id, run, created, ref_id, command, request, request_body, queue, priority, retry_limit, timeout, state,
    parents_left, lane, lane_key, suspect, attempts, attempts_returned, callback_attempts, callback_returned,
    crashes, started, completed, notified, last_activity, duration_ms, progress, status, response, response_body,
    error, error_code, error_message, overrunning, cancel_requested, cancelled_by, node, meta, history, work_done,
    request_type, worker, tags, batch_id, callback, callback_queue, depends_on, depends_on_policy, bound_attempt,
    parent_id, run_after, expires, created_by, user_id, tenant_id, reply_to, unique_key, unique_until,
    concurrency_key, args, trace_id, rerun_after_crash
)
select
    id, run, created, ref_id, command, request, request_body, queue, priority, retry_limit, timeout, state,
    parents_left, lane, lane_key, suspect, attempts, attempts_returned, callback_attempts, callback_returned,
    crashes, started, completed, notified, last_activity, duration_ms, progress, status, response, response_body,
    error, error_code, error_message, overrunning, cancel_requested, cancelled_by, node, meta, history, work_done,
    request_type, worker, tags, batch_id, callback, callback_queue, depends_on, depends_on_policy, bound_attempt,
    parent_id, run_after, expires, created_by, user_id, tenant_id, reply_to, unique_key, unique_until,
    concurrency_key, args, trace_id, rerun_after_crash
from {whole_rows};

-- name: load_job_summary
-- What is known of jobs that have ended.
insert into {schema}.job_summary (
    id, ref_id, command, created, state, started, completed, duration_ms, attempts, callback_attempts, run, queue,
    worker, tags, batch_id, parent_id, created_by, user_id, tenant_id, error_code, error_message, args, given_up
)
select
    id, ref_id, command, created, state, started, completed, duration_ms, attempts, callback_attempts, run, queue,
    worker, tags, batch_id, parent_id, created_by, user_id, tenant_id, error_code, error_message, args,
    case when state = N'Cancelled' and error_code = N'AttemptFailed' then id else 0 end
from {whole_rows};

-- name: load_log
-- Log lines of jobs of one month.
insert into {schema}.log_YYYY_MM (job_id, created, sequence, attempt, [at], level, logger, message, exception)
select job_id, created, sequence, attempt, [at], level, logger, message, exception
from openjson(:rows) with (
    job_id bigint, created bigint, sequence int, attempt bigint, [at] bigint, level nvarchar(40), logger nvarchar(max),
    message nvarchar(max), exception nvarchar(max)
) as new;

-- ── find: the fragments of its filters, joined by "and" ─────────────────────────────────────────────────────────────

-- name: find
-- The view's columns in the order of `to_summary`; filters follow.
select {summary_columns} from {schema}.summary where 1 = 1

-- name: find_newest
-- The end of `find`.
order by id desc offset 0 rows fetch next :limit rows only

-- name: count
-- How many match, up to a limit: filters lie between this and `count_end`.
select count(*) from (select top (:limit) 1 as one from {schema}.summary where 1 = 1

-- name: count_end
-- The end of `count`.
) as matching

-- name: where_command
command = :command

-- name: where_ref_id
ref_id = :ref_id

-- name: where_parent_id
parent_id = :parent_id

-- name: where_worker
worker = :worker

-- name: where_queue
queue = :queue

-- name: where_batch_id
batch_id = :batch_id

-- name: where_created_by
created_by = :created_by

-- name: where_user_id
user_id = :user_id

-- name: where_tenant_id
tenant_id = :tenant_id

-- name: where_error_code
error_code = :error_code

-- name: where_after
id < :after

-- name: where_ids
id in (select asked from {ids})

-- name: where_states
state in (select asked {exact} from openjson(:states) with (asked nvarchar(20) '$') as given)

-- name: where_unsuccessful
state <> N'Completed'

-- name: where_tag
exists (select 1 from openjson(tags) with (tag nvarchar(400) '$') as tagged where tag {exact} = :tag)

-- name: where_args
not exists (
    select 1 from openjson(:args) as wanted where not exists (
        select 1 from openjson(args) as there
        where there.[key] {exact} = wanted.[key] {exact} and there.value {exact} = wanted.value {exact}
    )
)

-- name: where_since
created >= :since

-- name: where_until
created < :until

-- name: where_text
(
    charindex(:text, lower(ref_id)) > 0 or charindex(:text, lower(command)) > 0 or charindex(:text, lower(worker)) > 0
    or charindex(:text, lower(error_message)) > 0
    or exists (
        select 1 from openjson(tags) with (tag nvarchar(400) '$') as tagged where charindex(:text, lower(tag {exact})) > 0
    )
)
