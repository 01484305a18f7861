-- Statements on PostgreSQL, in the order of a job's life. Their text never changes, so that each is prepared once.
--
-- Many rows come as one JSON document, or as arrays where speed counts; lists of ids as arrays.
-- Locks: rows by id, then lanes; whoever finds a row locked by somebody else while it has a lane goes around it.

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

-- fragment: summary_columns
id, ref_id, command, state, created, started, completed, duration_ms, attempts, worker, queue, tags, batch_id,
created_by, user_id, error_code, error_message, run

-- fragment: changed
json_to_recordset(:rows::json) as new (
    id bigint, owner bigint, state text, hold smallint, parents_left integer, lane text, lane_key text, suspect boolean,
    attempts bigint, attempts_returned bigint, callback_attempts bigint, callback_returned bigint, crashes integer,
    started bigint, completed bigint, notified bigint, last_activity bigint, duration_ms bigint,
    progress double precision, status text, response text, response_body text, error text, error_code text,
    error_message text, overrunning bigint, cancel_requested bigint, cancelled_by text, node text, meta text,
    history text, work_done boolean, callback_queue text, run_after bigint, priority bigint, queue text,
    claim_queue text, claim_command text, keeps_key boolean
)

-- fragment: cancelled_for_good
(state = 'Cancelled' and error_code is not distinct from 'AttemptFailed')

-- fragment: now
(extract(epoch from clock_timestamp()) * 1000000)::bigint

-- ── insert ──────────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: insert_jobs
-- New jobs with any columns; their ids are in the order of the rows. Those of requeued jobs are given.
-- (The document is bound as text: a caller whose connection this runs on may have taught it to encode json himself.)
insert into {schema}.job (
    id, ref_id, command, created, request, request_body, queue, priority, retry_limit, timeout, claim_queue,
    claim_command, held_key, owner, token, state, hold, parents_left, lane, lane_key, suspect, run, attempts,
    attempts_returned, callback_attempts, callback_returned, crashes, started, completed, notified, last_activity,
    duration_ms, progress, status, response, response_body, error, error_code, error_message, overrunning,
    cancel_requested, cancelled_by, node, meta, history, work_done, request_type, worker, tags, batch_id, callback,
    callback_queue, depends_on, depends_on_policy, bound_attempt, parent_id, run_after, expires, created_by, user_id,
    tenant_id, reply_to, unique_key, unique_until, concurrency_key, args, trace_id, rerun_after_crash, has_dependents
)
select
    coalesce(new.id, nextval('{schema}.job_id_seq')), new.ref_id, new.command, new.created,
    new.request, new.request_body, coalesce(new.queue, 'default'), coalesce(new.priority, 0),
    coalesce(new.retry_limit, 2), new.timeout, new.claim_queue, new.claim_command, new.held_key, new.owner, new.token,
    coalesce(new.state, 'Queued'), new.hold, coalesce(new.parents_left, 0), new.lane, new.lane_key,
    coalesce(new.suspect, false), coalesce(new.run, 0), coalesce(new.attempts, 0), coalesce(new.attempts_returned, 0),
    coalesce(new.callback_attempts, 0), coalesce(new.callback_returned, 0), coalesce(new.crashes, 0), new.started,
    new.completed, new.notified, new.last_activity, coalesce(new.duration_ms, 0), new.progress, new.status,
    new.response, new.response_body, new.error, new.error_code, new.error_message, new.overrunning,
    new.cancel_requested, new.cancelled_by, new.node, new.meta, new.history, coalesce(new.work_done, false),
    coalesce(new.request_type, 'CMD'), new.worker, new.tags, new.batch_id, new.callback, new.callback_queue,
    new.depends_on, coalesce(new.depends_on_policy, 'success'), new.bound_attempt, new.parent_id, new.run_after,
    new.expires, new.created_by, new.user_id, new.tenant_id, new.reply_to, new.unique_key,
    coalesce(new.unique_until, 'finish'), new.concurrency_key, new.args, new.trace_id,
    coalesce(new.rerun_after_crash, true), new.id is not null
from rows from (
    json_to_recordset(:rows::text::json) as (
        id bigint, ref_id text, command text, created bigint, request text, request_body text, queue text,
        priority bigint, retry_limit bigint, timeout double precision, claim_queue text, claim_command text,
        held_key text, owner bigint, token bigint, state text, hold smallint, parents_left integer, lane text,
        lane_key text, suspect boolean, run integer, attempts bigint, attempts_returned bigint,
        callback_attempts bigint, callback_returned bigint, crashes integer, started bigint, completed bigint,
        notified bigint, last_activity bigint, duration_ms bigint, progress double precision, status text,
        response text, response_body text, error text, error_code text, error_message text, overrunning bigint,
        cancel_requested bigint, cancelled_by text, node text, meta text, history text, work_done boolean,
        request_type text, worker text, tags text, batch_id text, callback text, callback_queue text, depends_on text,
        depends_on_policy text, bound_attempt bigint, parent_id bigint, run_after bigint, expires bigint,
        created_by text, user_id text, tenant_id text, reply_to text, unique_key text, unique_until text,
        concurrency_key text, args text, trace_id text, rerun_after_crash boolean
    )
) with ordinality as new (
    id, ref_id, command, created, request, request_body, queue, priority, retry_limit, timeout, claim_queue,
    claim_command, held_key, owner, token, state, hold, parents_left, lane, lane_key, suspect, run, attempts,
    attempts_returned, callback_attempts, callback_returned, crashes, started, completed, notified, last_activity,
    duration_ms, progress, status, response, response_body, error, error_code, error_message, overrunning,
    cancel_requested, cancelled_by, node, meta, history, work_done, request_type, worker, tags, batch_id, callback,
    callback_queue, depends_on, depends_on_policy, bound_attempt, parent_id, run_after, expires, created_by, user_id,
    tenant_id, reply_to, unique_key, unique_until, concurrency_key, args, trace_id, rerun_after_crash, place
)
order by new.place
returning id;

-- name: insert_alike
-- New jobs that have nothing out of the ordinary, and differ in their requests only.
insert into {schema}.job (
    ref_id, created, request_body, command, request, queue, priority, retry_limit, timeout, claim_queue, claim_command,
    owner, token, common
)
select
    new.ref_id, :created::bigint, new.request_body, :command::text, :request::text, :queue::text, :priority::bigint,
    :retry_limit::bigint, :timeout::double precision, :claim_queue::text, :claim_command::text, :owner::bigint,
    :token::bigint, true
from unnest(:refs::text[], :bodies::text[]) as new (ref_id, request_body)
returning id;

-- name: insert_plain
-- The same for jobs of several kinds: the values that rows share are written once, and each row says which are its own.
insert into {schema}.job (
    ref_id, created, request_body, command, request, queue, priority, retry_limit, timeout, claim_queue, claim_command,
    owner, token, common
)
select
    new.ref_id, new.created, new.request_body, (:commands::text[])[kind], (:requests::text[])[kind],
    (:queues::text[])[kind], (:priorities::bigint[])[kind], (:retry_limits::bigint[])[kind],
    (:timeouts::double precision[])[kind], (:claim_queues::text[])[kind], (:claim_commands::text[])[kind],
    (:owners::bigint[])[kind], :token::bigint, true
from unnest(:refs::text[], :created::bigint[], :bodies::text[], :kinds::integer[])
    as new (ref_id, created, request_body, kind)
returning id;

-- name: taken_refs
-- Which of these ref ids exist, live or finished, and whose they are.
select ref_id, id from {schema}.job where ref_id = any(:refs::text[])
union all
select ref_id, id from {schema}.job_summary where ref_id = any(:refs::text[]) and not {cancelled_for_good};

-- name: finished_refs
-- The same among finished jobs only: should one have run and ended between the look and the insert.
select ref_id from {schema}.job_summary where ref_id = any(:refs::text[]) and not {cancelled_for_good};

-- name: key_holders
-- The unfinished jobs that keep others of their command from unique keys.
select job.command, job.held_key, job.id, job.ref_id
from {schema}.job join unnest(:commands::text[], :keys::text[]) as wanted (command, held_key)
    on job.command = wanted.command and job.held_key = wanted.held_key
where job.held_key is not null;

-- name: note_dependents
-- From now on the end of these jobs is not theirs alone.
update {schema}.job set has_dependents = true where id = any(:ids::bigint[]) and not has_dependents;

-- name: lock_parents
-- Live jobs that new ones depend on; they do not end before this transaction has.
select id, state, attempts, callback_attempts, owner from {schema}.job where id = any(:ids::bigint[])
order by id for key share;

-- name: finished_parents
-- Those that have ended.
select id, state, attempts, callback_attempts, null from {schema}.job_summary where id = any(:ids::bigint[]);

-- name: known_among
-- Which of these jobs there are, live or finished.
select id from {schema}.job where id = any(:ids::bigint[])
union all
select id from {schema}.job_summary where id = any(:ids::bigint[]);

-- name: depend
-- A child waits for a parent, or was cancelled because of it.
insert into {schema}.dependency (parent_id, child_id, bound_attempt, cancelled)
select parent_id, child_id, bound_attempt, cancelled
from json_to_recordset(:rows::json) as new (parent_id bigint, child_id bigint, bound_attempt bigint, cancelled boolean)
on conflict (parent_id, child_id) do update
    set bound_attempt = excluded.bound_attempt, cancelled = excluded.cancelled;

-- name: lock_summaries
-- Jobs to be requeued, if these runs of them are the ones that have ended.
select id, ref_id from {schema}.job_summary
where (id, run) in (select id, run from json_to_recordset(:rows::json) as wanted (id bigint, run integer))
order by id for update;

-- name: delete_summaries
-- These jobs are live again.
delete from {schema}.job_summary where id = any(:ids::bigint[]);

-- ── in a caller's own transaction ───────────────────────────────────────────────────────────────────────────────────

-- name: savepoint
-- What is done from here on can be undone, and his transaction goes on.
savepoint commandjobs;

-- name: undo
-- It is undone, and any setting with it.
rollback to savepoint commandjobs;

-- name: release_savepoint
-- It is his from now on.
release savepoint commandjobs;

-- name: limit_wait
-- Wait for nobody's lock longer than we do in transactions of our own, unless he is even less patient; what he had set.
select before.lock_timeout, set_config('lock_timeout', case
    when before.milliseconds between 1 and 5000 then before.lock_timeout else '5s'
end, true)
from (
    select current_setting('lock_timeout') as lock_timeout, setting::integer as milliseconds
    from pg_settings where name = 'lock_timeout'
) as before;

-- name: restore_wait
-- As he had it.
select set_config('lock_timeout', :before, true);

-- name: whereabouts
-- Which database of which server a connection leads to, and how that is said.
select system_identifier::text, current_database()::text,
    'database ' || quote_ident(current_database()) || ' at '
        || coalesce(host(inet_server_addr()) || ':' || inet_server_port(), 'a local socket')
from pg_control_system();

-- name: unadmitted
-- Jobs that came with their callers' transactions, and the jobs they depend on.
select id, depends_on from {schema}.job where hold = 4 order by id limit :most;

-- name: lock_unadmitted
-- Those of them that nobody else admits just now.
select {job_columns} from {schema}.job where id = any(:ids::bigint[]) and hold = 4
order by id for update skip locked;

-- ── claim and start ─────────────────────────────────────────────────────────────────────────────────────────────────

-- name: claim
-- Own the best claimable jobs of the queues and commands asked for: `queues` have room for `rooms`, all others for
-- `other`. The kinds of jobs there are come from stepping over the claim index, so that what nobody here knows or has
-- room for costs nothing, however many there are. A node that was found dead gets nothing.
with recursive kind (queue, command) as (
    (
        select claim_queue, claim_command from {schema}.job where claim_queue is not null
        order by claim_queue, claim_command limit 1
    )
    union all
    select next.queue, next.command from kind cross join lateral (
        select claim_queue as queue, claim_command as command from {schema}.job
        where claim_queue is not null and (claim_queue, claim_command) > (kind.queue, kind.command)
        order by claim_queue, claim_command limit 1
    ) as next
),
wanted as (
    select kind.queue, kind.command, coalesce(room.most, :other::bigint) as most
    from kind left join unnest(:queues::text[], :rooms::bigint[]) as room (queue, most) on room.queue = kind.queue
    where kind.command = any(:commands::text[])
      and (:served::text[] is null or kind.queue = any(:served::text[]))
      and coalesce(room.most, :other::bigint) > 0
      and exists (select from {schema}.node where number = :owner and stopped is null and not lost)
),
candidate as (
    select wanted.queue, wanted.most, best.id, best.priority from wanted cross join lateral (
        select id, priority from {schema}.job
        where claim_queue = wanted.queue and claim_command = wanted.command and claim_queue is not null
          and (expires is null or attempts > 0 or expires > :now::bigint)
        order by priority desc, id limit wanted.most for no key update skip locked
    ) as best
),
chosen as (
    select id from (
        select id, most, row_number() over (partition by queue order by priority desc, id) as place from candidate
    ) as ranked
    where place <= most
)
update {schema}.job set owner = :owner::bigint, token = :token::bigint, claim_queue = null, claim_command = null,
    begun = false
where job.id = any(array(select id from chosen))  -- joined to them, the planner may read the whole table
returning job.id, ref_id, command, created, request, request_body, queue, priority, retry_limit, timeout, common;

-- name: claimed_by
-- What one call of an owner has claimed: asked when its answer was lost.
select {job_columns} from {schema}.job where owner = :owner and token = :token and not begun order by id;

-- name: read_jobs
-- Whole rows.
select {job_columns} from {schema}.job where id = any(:ids::bigint[]) order by id;

-- name: lock_jobs
-- The same, and nobody else changes them before this transaction has ended.
select {job_columns} from {schema}.job where id = any(:ids::bigint[]) order by id for update;

-- name: mark_started
-- The start of attempts. A key that is only held until the start is free.
update {schema}.job set state = new.state, attempts = new.attempts, callback_attempts = new.callback_attempts,
    started = new.started, last_activity = new.last_activity, node = new.node, suspect = coalesce(new.suspect, false),
    progress = new.progress, status = new.status, begun = true, common = false,
    held_key = case when job.unique_until = 'start' then null else job.held_key end
from json_to_recordset(:rows::json) as new (
    id bigint, owner bigint, state text, attempts bigint, callback_attempts bigint, started bigint,
    last_activity bigint, node text, suspect boolean, progress double precision, status text
)
where job.id = new.id and job.owner = new.owner
returning job.id;

-- name: begun_among
-- Which of these jobs their owners have started.
select id from {schema}.job where id = any(:ids::bigint[]) and begun;

-- name: report
-- The newest progress and sign of life.
update {schema}.job set progress = new.progress, status = new.status, last_activity = new.at,
    overrunning = new.overrunning, common = false
from json_to_recordset(:rows::json) as new (
    id bigint, owner bigint, progress double precision, status text, at bigint, overrunning bigint
)
where job.id = new.id and job.owner = new.owner;

-- ── settle ──────────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: held
-- Who owns these jobs now, which lanes they hold, who waits for them, and whether somebody wants them cancelled.
select id, owner, lane, lane_key, cancel_requested, cancelled_by, has_dependents from {schema}.job
where id = any(:ids::bigint[]) order by id for update;

-- name: ended_as
-- Which of these jobs have ended, with the run, state and time of their ends: asked when an answer was lost.
select summary.id, summary.run, summary.state, finished.last_activity
from {schema}.job_summary as summary join {schema}.finished
    on finished.id = summary.id and finished.run = summary.run and finished.created = summary.created
where summary.id = any(:ids::bigint[]);

-- name: place
-- Who owns waiting jobs, what parks them, and as what they can be claimed.
update {schema}.job set owner = new.owner, token = new.token, hold = new.hold, parents_left = new.parents_left,
    suspect = new.suspect, claim_queue = new.claim_queue, claim_command = new.claim_command, begun = false,
    common = false
from json_to_recordset(:rows::json) as new (
    id bigint, owner bigint, token bigint, hold smallint, parents_left integer, suspect boolean, claim_queue text,
    claim_command text
)
where job.id = new.id;

-- name: rewrite
-- Everything that an attempt or an operator can change of a job.
update {schema}.job set owner = new.owner, token = null, state = new.state, hold = new.hold,
    parents_left = coalesce(new.parents_left, 0), lane = new.lane, lane_key = new.lane_key,
    suspect = coalesce(new.suspect, false), attempts = coalesce(new.attempts, 0),
    attempts_returned = coalesce(new.attempts_returned, 0), callback_attempts = coalesce(new.callback_attempts, 0),
    callback_returned = coalesce(new.callback_returned, 0), crashes = coalesce(new.crashes, 0), started = new.started,
    completed = new.completed, notified = new.notified, last_activity = new.last_activity,
    duration_ms = coalesce(new.duration_ms, 0), progress = new.progress, status = new.status, response = new.response,
    response_body = new.response_body, error = new.error, error_code = new.error_code,
    error_message = new.error_message, overrunning = new.overrunning, cancel_requested = new.cancel_requested,
    cancelled_by = new.cancelled_by, node = new.node, meta = new.meta, history = new.history,
    work_done = coalesce(new.work_done, false), callback_queue = new.callback_queue, run_after = new.run_after,
    priority = coalesce(new.priority, 0), queue = coalesce(new.queue, 'default'), claim_queue = new.claim_queue,
    claim_command = new.claim_command, begun = false, common = false,
    held_key = case when new.keeps_key then job.held_key end
from {changed}
where job.id = new.id;

-- name: finish_jobs
-- Finished jobs leave for the archive of their month, and their summaries stay.
with gone as (
    delete from {schema}.job where id in (
        select id from json_to_recordset(:rows::json) as leaving (id bigint)
    )
    returning *
),
archived as (
    insert into {schema}.finished (
        id, run, created, ref_id, command, request, request_body, queue, priority, retry_limit, timeout, state,
        parents_left, lane, lane_key, suspect, attempts, attempts_returned, callback_attempts, callback_returned,
        crashes, started, completed, notified, last_activity, duration_ms, progress, status, response, response_body,
        error, error_code, error_message, overrunning, cancel_requested, cancelled_by, node, meta, history, work_done,
        request_type, worker, tags, batch_id, callback, callback_queue, depends_on, depends_on_policy, bound_attempt,
        parent_id, run_after, expires, created_by, user_id, tenant_id, reply_to, unique_key, unique_until,
        concurrency_key, args, trace_id, rerun_after_crash
    )
    select
        gone.id, gone.run, gone.created, gone.ref_id, gone.command, gone.request, gone.request_body,
        coalesce(new.queue, 'default'), coalesce(new.priority, 0), gone.retry_limit, gone.timeout, new.state,
        coalesce(new.parents_left, 0), new.lane, new.lane_key, coalesce(new.suspect, false),
        coalesce(new.attempts, 0), coalesce(new.attempts_returned, 0), coalesce(new.callback_attempts, 0),
        coalesce(new.callback_returned, 0), coalesce(new.crashes, 0), new.started, new.completed, new.notified,
        new.last_activity, coalesce(new.duration_ms, 0), new.progress, new.status, new.response, new.response_body,
        new.error, new.error_code, new.error_message, new.overrunning, new.cancel_requested, new.cancelled_by,
        new.node, new.meta, new.history, coalesce(new.work_done, false), gone.request_type, gone.worker, gone.tags,
        gone.batch_id, gone.callback, new.callback_queue, gone.depends_on, gone.depends_on_policy,
        gone.bound_attempt, gone.parent_id, new.run_after, gone.expires, gone.created_by, gone.user_id,
        gone.tenant_id, gone.reply_to, gone.unique_key, gone.unique_until, gone.concurrency_key, gone.args,
        gone.trace_id, gone.rerun_after_crash
    from gone join {changed} on new.id = gone.id
)
insert into {schema}.job_summary (
    id, ref_id, command, created, state, started, completed, duration_ms, attempts, callback_attempts, run, queue,
    worker, tags, batch_id, parent_id, created_by, user_id, tenant_id, error_code, error_message, args
)
select
    gone.id, gone.ref_id, gone.command, gone.created, new.state, new.started, new.completed,
    coalesce(new.duration_ms, 0), coalesce(new.attempts, 0), coalesce(new.callback_attempts, 0), gone.run,
    coalesce(new.queue, 'default'), gone.worker, gone.tags, gone.batch_id, gone.parent_id, gone.created_by,
    gone.user_id, gone.tenant_id, new.error_code, new.error_message, gone.args
from gone join {changed} on new.id = gone.id;

-- name: finish_plain
-- The same for jobs that nobody waits for and that have succeeded at once, with nothing out of the ordinary: those that
-- are their owner's. All their other columns are at their defaults.
with gone as (
    delete from {schema}.job
    using unnest(
        :ids::bigint[], :started::bigint[], :completed::bigint[], :durations::bigint[], :responses::text[], :bodies::text[]
    ) as new (id, started, completed, duration_ms, response, response_body)
    where job.id = new.id and job.owner = :owner and job.common and not job.has_dependents
    returning job.id, ref_id, command, created, request, request_body, queue, priority, retry_limit, timeout, new.started,
        new.completed, new.duration_ms, new.response, new.response_body
),
archived as (
    insert into {schema}.finished (
        id, ref_id, command, created, request, request_body, queue, priority, retry_limit, timeout, state, attempts,
        started, completed, last_activity, duration_ms, progress, response, response_body, node
    )
    select id, ref_id, command, created, request, request_body, queue, priority, retry_limit, timeout, 'Completed', 1,
        started, completed, completed, duration_ms, 1, response, response_body, :node
    from gone
)
insert into {schema}.job_summary (id, ref_id, command, created, started, completed, duration_ms, queue)
select id, ref_id, command, created, started, completed, duration_ms, queue from gone
returning id;

-- ── dependents ──────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: children
-- Who waits for these jobs.
select parent_id, child_id from {schema}.dependency where parent_id = any(:ids::bigint[]) and not cancelled
order by parent_id, child_id limit :most;

-- name: bound_children
-- Who belongs to attempts of jobs; also those that came with a transaction of the attempt's and are not admitted yet.
with lost as materialized (
    select parent_id, attempt from json_to_recordset(:rows::json) as lost (parent_id bigint, attempt bigint)
)
select dependency.parent_id, dependency.child_id from {schema}.dependency
join lost on dependency.parent_id = lost.parent_id and dependency.bound_attempt = lost.attempt
where dependency.bound_attempt is not null and not dependency.cancelled
union all
select lost.parent_id, job.id from {schema}.job
join lost on (job.depends_on::json ->> 0)::bigint = lost.parent_id and job.bound_attempt = lost.attempt
where job.hold = 4
order by 1, 2;

-- name: forget_dependencies
-- These children wait for these parents no more.
delete from {schema}.dependency
using json_to_recordset(:rows::json) as told (parent_id bigint, child_id bigint)
where dependency.parent_id = told.parent_id and dependency.child_id = told.child_id;

-- name: keep_cancelled
-- These children were cancelled because of these parents.
update {schema}.dependency set cancelled = true
from json_to_recordset(:rows::json) as told (parent_id bigint, child_id bigint)
where dependency.parent_id = told.parent_id and dependency.child_id = told.child_id;

-- name: follow_later
-- More dependents than one transaction may hold.
insert into {schema}.unfollowed (parent_id, state)
select parent_id, state from json_to_recordset(:rows::json) as new (parent_id bigint, state text)
on conflict (parent_id) do update set state = excluded.state;

-- name: unfollowed
-- Whose dependents are still to be told.
select parent_id, state from {schema}.unfollowed order by parent_id limit :most for update skip locked;

-- name: followed
-- They are told, or a new marker is written in the same transaction.
delete from {schema}.unfollowed where parent_id = any(:ids::bigint[]);

-- ── lanes ───────────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: lock_lanes
-- Nobody else elects in these lanes before this transaction has ended. (A lane's name is one of a few numbers here: a
-- table of lanes would have to be cleared of those that nobody uses any more.)
select pg_advisory_xact_lock(hashtext('{schema} lanes'), number) from unnest(:numbers::integer[]) as number;

-- name: try_lock_lanes
-- The same without waiting, for lanes that come up late: waiting out of turn could be for ever.
select coalesce(bool_and(pg_try_advisory_xact_lock(hashtext('{schema} lanes'), number)), true)
from unnest(:numbers::integer[]) as number;

-- name: lane_holders
-- The jobs that have these lanes: owned, or claimable.
select id, owner, priority, lane, lane_key, state, command, queue, callback, callback_queue from {schema}.job
where lane = any(:workers::text[]) and lane is not null and hold is null
union
select id, owner, priority, lane, lane_key, state, command, queue, callback, callback_queue from {schema}.job
where lane_key = any(:keys::text[]) and lane_key is not null and hold is null;

-- name: lane_waiting
-- Who waits for these lanes, best first, as many as are asked for of each.
select 'worker', best.* from unnest(:workers::text[]) as wanted (name) cross join lateral (
    select id, owner, priority, lane, lane_key, state, command, queue, callback, callback_queue from {schema}.job
    where lane = wanted.name and hold = 3 and lane is not null order by priority desc, id limit :most
) as best
union all
select 'key', best.* from unnest(:keys::text[]) as wanted (name) cross join lateral (
    select id, owner, priority, lane, lane_key, state, command, queue, callback, callback_queue from {schema}.job
    where lane_key = wanted.name and hold = 3 and lane_key is not null order by priority desc, id limit :most
) as best;

-- name: seat
-- Waiting jobs get their lanes, except those that somebody is changing now: he looks at their lanes himself.
update {schema}.job set owner = new.owner, token = new.token, hold = null, claim_queue = new.claim_queue,
    claim_command = new.claim_command, begun = false, common = false
from json_to_recordset(:rows::json) as new (
    id bigint, owner bigint, token bigint, claim_queue text, claim_command text
)
where job.id = new.id and job.id in (
    select id from {schema}.job where id = any(:ids::bigint[]) and hold = 3 order by id for no key update skip locked
)
returning job.id;

-- name: unseat
-- Claimable jobs give way to better ones, except those that somebody is claiming now.
update {schema}.job set hold = 3, claim_queue = null, claim_command = null
where id in (
    select id from {schema}.job where id = any(:ids::bigint[]) and owner is null and hold is null
    order by id for no key update skip locked
)
returning id;

-- ── time, operators, dead owners ────────────────────────────────────────────────────────────────────────────────────

-- name: due
-- Jobs whose time has come; another node may be waking some of them.
select {job_columns} from {schema}.job where hold = 2 and run_after <= :now order by run_after limit :most
for update skip locked;

-- name: expired
-- Waiting jobs that were not started in time.
select {job_columns} from {schema}.job
where expires is not null and attempts = 0 and owner is null and expires <= :now
order by expires limit :most for update skip locked;

-- name: next_moment
-- When the next one is due or expires.
select least(
    (select min(run_after) from {schema}.job where hold = 2),
    (select min(expires) from {schema}.job where expires is not null and attempts = 0 and owner is null)
);

-- name: request_cancellation
-- The owners of these jobs are to end them.
update {schema}.job set cancel_requested = new.cancel_requested, cancelled_by = new.cancelled_by, common = false
from json_to_recordset(:rows::json) as new (id bigint, cancel_requested bigint, cancelled_by text)
where job.id = new.id;

-- name: finished_among
-- Which of these have ended.
select id from {schema}.job_summary where id = any(:ids::bigint[]);

-- name: try_maintain
-- Whether this transaction may rescue: one node at a time does.
select pg_try_advisory_xact_lock(hashtext('{schema} maintenance'), 0);

-- name: bury
-- Nodes that have been silent for their lease are dead, and stay so.
update {schema}.node set lost = true, executing = false, standby = false
where not lost and stopped is null and seen + lease < {now};

-- name: orphaned
-- Jobs whose owner is dead.
with recursive owner (number) as (
    (select owner from {schema}.job where owner is not null order by owner limit 1)
    union all
    select next.number from owner cross join lateral (
        select job.owner as number from {schema}.job where job.owner is not null and job.owner > owner.number
        order by job.owner limit 1
    ) as next
)
select job.id, job.begun from owner
cross join lateral (select id, begun from {schema}.job where job.owner = owner.number and job.owner is not null) as job
where not exists (
    select from {schema}.node where node.number = owner.number and node.stopped is null and not node.lost
)
limit :most;

-- ── counts ──────────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: write_tallies
-- What a node has counted in an hour so far.
insert into {schema}.tally (hour, kind, command, worker, queue, outcome, node, count, time_ms, histogram)
select hour, kind, command, worker, queue, outcome, node, count, time_ms, histogram
from json_to_recordset(:rows::json) as new (
    hour bigint, kind text, command text, worker text, queue text, outcome text, node bigint, count bigint,
    time_ms double precision, histogram text
)
on conflict (hour, kind, command, worker, queue, outcome, node) do update
    set count = excluded.count, time_ms = excluded.time_ms, histogram = excluded.histogram;

-- ── logs ────────────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: append_logs
-- Lines get the next numbers of their jobs.
insert into {schema}.log (job_id, sequence, created, attempt, at, level, logger, message, exception)
select new.job_id, last.sequence + row_number() over (partition by new.job_id order by new.place), new.created,
       new.attempt, new.at, new.level, new.logger, new.message, new.exception
from json_to_recordset(:rows::json) as new (
    job_id bigint, place integer, created bigint, attempt bigint, at bigint, level text, logger text, message text,
    exception text
)
cross join lateral (
    select coalesce(max(sequence), 0) as sequence from {schema}.log
    where log.job_id = new.job_id and log.created = new.created
) as last;

-- ── processes ───────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: add_node
-- A process has started.
insert into {schema}.node (id, name, pid, version, started, heartbeat, stopped, draining, executing, standby, running,
    concurrency, queues, commands, machine, lease, seen)
values (:id, :name, :pid, :version, :started, :heartbeat, :stopped, :draining, :executing, :standby, :running,
    :concurrency, :queues, :commands, :machine, :lease, {now})
returning number;

-- name: keep_node
-- What a process says of itself. One that was found dead stays so.
update {schema}.node set heartbeat = :heartbeat, stopped = coalesce(stopped, :stopped), draining = :draining,
    executing = :executing and not lost, standby = :standby and not lost, running = :running,
    concurrency = :concurrency, queues = :queues, commands = :commands, seen = case when lost then seen else {now} end
where number = :number;

-- name: renew_lease
-- A process lives; nothing comes back if it was found dead.
update {schema}.node set seen = {now} where number = :number and not lost returning number;

-- name: forget_nodes
-- Processes that stopped, or were last heard of, long ago, and own nothing.
delete from {schema}.node
where coalesce(stopped, heartbeat) < :before
  and not exists (select from {schema}.job where owner = node.number and owner is not null);

-- name: nodes
-- All processes known; one that was found dead ended with its last heartbeat.
select number, id, name, pid, version, started, heartbeat, case when lost then coalesce(stopped, heartbeat) else stopped
       end, draining, executing, standby, running, concurrency, queues, commands
from {schema}.node order by number;

-- name: neighbours
-- Other processes of this machine that have not said that they stopped.
select number, pid from {schema}.node where machine = :machine and number <> :number and stopped is null and not lost;

-- name: owned
-- What a process owns.
select id from {schema}.job where owner = :owner and owner is not null;

-- name: disown
-- Jobs of a process that it knows nothing of.
update {schema}.job set owner = :grave where id = any(:ids::bigint[]) and owner = :owner;

-- name: bury_nodes
-- These processes are gone.
update {schema}.node set lost = true, executing = false, standby = false where number = any(:numbers::bigint[]);

-- name: cancellations
-- Jobs of an owner that somebody wants to end.
select id, cancelled_by from {schema}.job where owner = :owner and owner is not null and cancel_requested is not null;

-- name: stirred
-- Whether there is anything due, left to sweep, or not admitted yet.
select exists (select from {schema}.job where hold = 2 and run_after <= {now})
    or exists (select from {schema}.unfollowed)
    or exists (select from {schema}.job where hold = 4);

-- name: clock
-- The database's time.
select {now};

-- ── looking ─────────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: id_of_ref
-- The job with a ref id.
select id from {schema}.job where ref_id = :ref
union all
select id from {schema}.job_summary where ref_id = :ref and not {cancelled_for_good};

-- name: find_rows
-- Whole rows wherever they are, and first whether there is one: of a dropped month only the summary is left.
select true, {job_columns} from {schema}.job where id = any(:ids::bigint[])
union all
select finished.id is not null,
    summary.id, summary.ref_id, summary.command, summary.created, finished.request, finished.request_body,
    summary.queue, coalesce(finished.priority, 0), coalesce(finished.retry_limit, 2), finished.timeout,
    null, summary.state, null, coalesce(finished.parents_left, 0), finished.lane, finished.lane_key,
    coalesce(finished.suspect, false), summary.run,
    summary.attempts, coalesce(finished.attempts_returned, 0), summary.callback_attempts,
    coalesce(finished.callback_returned, 0), coalesce(finished.crashes, 0),
    summary.started, summary.completed, finished.notified, finished.last_activity, summary.duration_ms,
    finished.progress, finished.status,
    finished.response, finished.response_body, finished.error, summary.error_code, summary.error_message,
    finished.overrunning, finished.cancel_requested, finished.cancelled_by, finished.node, finished.meta,
    finished.history, coalesce(finished.work_done, false),
    coalesce(finished.request_type, 'CMD'), summary.worker, summary.tags, summary.batch_id, finished.callback,
    finished.callback_queue,
    finished.depends_on, coalesce(finished.depends_on_policy, 'success'), finished.bound_attempt, summary.parent_id,
    finished.run_after, finished.expires,
    summary.created_by, summary.user_id, summary.tenant_id, finished.reply_to, finished.unique_key,
    coalesce(finished.unique_until, 'finish'), finished.concurrency_key,
    summary.args, finished.trace_id, coalesce(finished.rerun_after_crash, true)
from {schema}.job_summary as summary left join {schema}.finished
    on finished.id = summary.id and finished.run = summary.run and finished.created = summary.created
where summary.id = any(:ids::bigint[]);

-- name: earlier_runs
-- The archived rows of a job's runs before the newest.
select {finished_columns}
from {schema}.finished where id = :id and created = :created and run < :run order by run;

-- name: created
-- When a job was created.
select created from {schema}.job where id = :id
union all
select created from {schema}.job_summary where id = :id;

-- name: logs
-- A piece of a job's log.
select sequence, at, level, logger, message, exception, attempt from {schema}.log
where job_id = :id and created = :created and sequence > :after order by sequence limit :most;

-- name: unfinished_among
-- Which of these jobs have not ended, and the highest id there was.
select id from {schema}.job where id = any(:ids::bigint[])
union all
select -last_value from {schema}.job_id_seq where is_called;

-- name: cancelled_dependents
-- Jobs that were cancelled because of this one, as long as anything is known of them.
select child_id from {schema}.dependency
where parent_id = :id and cancelled
  and (exists (select from {schema}.job_summary where id = child_id)
       or exists (select from {schema}.job where id = child_id))
order by child_id;

-- name: lanes
-- Live jobs by queue and worker.
select queue, worker, count(*) filter (where not begun),
       count(*) filter (where not begun and (hold is null or hold = 3)), count(*) filter (where begun),
       min(greatest(created, coalesce(run_after, 0))) filter (where not begun and (hold is null or hold = 3))
from {schema}.job group by queue, worker order by queue, worker;

-- name: claimable_kinds
-- Queues and commands of claimable jobs, by stepping over the claim index.
with recursive kind (queue, command) as (
    (
        select claim_queue, claim_command from {schema}.job where claim_queue is not null
        order by claim_queue, claim_command limit 1
    )
    union all
    select next.queue, next.command from kind cross join lateral (
        select claim_queue as queue, claim_command as command from {schema}.job
        where claim_queue is not null and (claim_queue, claim_command) > (kind.queue, kind.command)
        order by claim_queue, claim_command limit 1
    ) as next
)
select queue, command from kind;

-- name: tallies
-- What was counted since.
select hour, kind, command, worker, queue, outcome, count, time_ms, histogram from {schema}.tally where hour >= :since;

-- ── moving jobs to another storage, and taking them in ──────────────────────────────────────────────────────────────

-- name: workers
-- Processes that live, and execute or still own a job.
select name, pid from {schema}.node
where stopped is null and not lost and seen + lease >= {now}
  and (executing or exists (select from {schema}.job where owner = node.number and owner is not null))
order by number;

-- name: contents
-- How many jobs there are, and the highest numbers given to a job and to a process.
select (select count(*) from {schema}.job) + (select count(*) from {schema}.job_summary),
       (select case when is_called then last_value else 0 end from {schema}.job_id_seq),
       (select case when is_called then last_value else 0 end from {schema}.node_number_seq);

-- name: count_of_month
-- The jobs created in a month that have ended.
select count(*) from {schema}.job_summary where created >= :first and created < :following;

-- name: carry_ids
-- The next jobs by id, and whether they are unfinished.
(select id, ref_id, run, created, true from {schema}.job where id > :after order by id limit :most)
union all
(select id, ref_id, run, created, false from {schema}.job_summary where id > :after order by id limit :most)
order by 1 limit :most;

-- name: carry_month_ids
-- The same of jobs created in a month that have ended.
select id, ref_id, run, created, false from {schema}.job_summary
where id > :after and created >= :first and created < :following order by id limit :most;

-- name: carry_runs
-- All finished runs of several jobs.
select {finished_columns} from {schema}.finished
where id between :first and :last and created between :oldest and :newest order by id, run;

-- name: carry_summaries
-- What is left of jobs whose archives are not there; the order is that of `SUMMARY_COLUMNS`.
select id, ref_id, command, created, state, started, completed, duration_ms, attempts, callback_attempts, run, queue,
       worker, tags, batch_id, parent_id, created_by, user_id, tenant_id, error_code, error_message, args
from {schema}.job_summary where id = any(:ids::bigint[]);

-- name: carry_ties
-- What jobs have to do with their parents.
select child_id, parent_id, bound_attempt, cancelled from {schema}.dependency
where parent_id = any(:parents::bigint[]) and child_id between :first and :last order by child_id, parent_id;

-- name: carry_logs
-- Lines of several jobs.
select job_id, sequence, attempt, at, level, logger, message, exception from {schema}.log
where job_id between :first and :last and created between :oldest and :newest order by job_id, sequence;

-- name: copying
-- The copy that is being made here, or was.
select source, run, last_id, source_node, target_node, after, ref_id, done from {schema}.copying;

-- name: lock_copying
-- Who makes it now; nobody else takes it over before this transaction has ended.
select run from {schema}.copying for update;

-- name: note_copying
-- How far it has come.
insert into {schema}.copying (place, source, run, last_id, source_node, target_node, after, ref_id, done)
values (1, :source, :run, :last_id, :source_node, :target_node, :after, :ref_id, :done)
on conflict (place) do update set source = excluded.source, run = excluded.run, last_id = excluded.last_id,
    source_node = excluded.source_node, target_node = excluded.target_node, after = excluded.after,
    ref_id = excluded.ref_id, done = excluded.done;

-- name: last_id
-- The highest id ever given.
select case when is_called then last_value else 0 end from {schema}.job_id_seq;

-- name: lock_inserts
-- Nobody gets an id before this transaction has ended.
lock table {schema}.job in share row exclusive mode;

-- name: raise_last_id
-- Ids go on above this one.
select setval('{schema}.job_id_seq', :id::bigint) from {schema}.job_id_seq where not is_called or last_value < :id::bigint;

-- name: refs_of
-- Which of these ids are given to jobs, and to which.
select id, ref_id from {schema}.job where id = any(:ids::bigint[])
union all
select id, ref_id from {schema}.job_summary where id = any(:ids::bigint[]);

-- name: forget_jobs
-- These jobs come anew.
delete from {schema}.job where id = any(:ids::bigint[]);

-- name: forget_runs
-- The same of what lies in the archive.
delete from {schema}.finished where id = any(:ids::bigint[]);

-- name: forget_logs
-- The same of their logs.
delete from {schema}.log where job_id = any(:ids::bigint[]);

-- name: forget_ties
-- The same of what they have to do with their parents.
delete from {schema}.dependency where child_id = any(:ids::bigint[]);

-- ── months ──────────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: partitions
-- The tables of the archive, one a month, by name.
select child.relname from pg_inherits
join pg_class as child on child.oid = pg_inherits.inhrelid
where pg_inherits.inhparent = to_regclass('{schema}.finished') and not pg_inherits.inhdetachpending
order by child.relname;

-- name: newest_ends
-- When the last job of each month has ended. One statement: its conditions prune the partitions.
select month.number, (
    select max(last_activity) from {schema}.finished
    where created >= month.first and created < month.following
)
from unnest(:numbers::integer[], :firsts::bigint[], :followings::bigint[]) as month (number, first, following);

-- name: summaries_of_month
-- A piece of the jobs created in a month that have ended, by id.
select id from {schema}.job_summary where id > :after and created >= :first and created < :following
order by id limit :most;

-- name: drop_summaries
-- Jobs that are forgotten.
delete from {schema}.job_summary where id = any(:ids::bigint[]);

-- name: drop_dependencies
-- Nobody was cancelled because of them, and they because of nobody, any more.
delete from {schema}.dependency where cancelled and parent_id = any(:ids::bigint[]);

-- ── find: the fragments of its filters, joined by "and" ─────────────────────────────────────────────────────────────

-- name: find
-- The view's columns in the order of `to_summary`; filters follow.
select {summary_columns} from {schema}.summary where true

-- name: find_newest
-- The end of `find`.
order by id desc limit :limit

-- name: count
-- How many match, up to a limit: filters lie between this and `count_end`.
select count(*) from (select 1 from {schema}.summary where true

-- name: count_end
-- The end of `count`.
limit :limit) as matching

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
id = any(:ids::bigint[])

-- name: where_states
state = any(:states::text[])

-- name: where_unsuccessful
state <> 'Completed'

-- name: where_tag
exists (select from json_array_elements_text(tags::json) as tag where tag = :tag)

-- name: where_args
args::jsonb @> :args::jsonb

-- name: where_since
created >= :since

-- name: where_until
created < :until

-- name: where_text
(
    strpos(lower(ref_id collate "default"), :text) > 0 or strpos(lower(command collate "default"), :text) > 0
    or strpos(lower(worker collate "default"), :text) > 0 or strpos(lower(error_message collate "default"), :text) > 0
    or exists (select from json_array_elements_text(tags::json) as tag where strpos(lower(tag), :text) > 0)
)
