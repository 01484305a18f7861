-- Statements on MySQL 8 and MariaDB 10.6, in the order of a job's life.
--
-- What both lack, against PostgreSQL's file: RETURNING (an update comes after the select that locks its rows), LATERAL
-- (a select for each, joined by UNION ALL, is put together in `MysqlConnection.each`), indexes of some rows (columns
-- that are NULL in all others), arrays (lists stand in the text: `in :ids`). Many rows come as one JSON document, or as rows of an insert.
--
-- The optimizer may read a small table whole, and a locking read then waits for, and locks, rows that it does not want:
-- hence every `force index` and `straight_join` here.
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

-- fragment: summary_columns
id, ref_id, command, state, created, started, completed, duration_ms, attempts, worker, queue, tags, batch_id,
created_by, user_id, error_code, error_message, run

-- fragment: cancelled_for_good
(state = 'Cancelled' and error_code <=> 'AttemptFailed')

-- fragment: now
timestampdiff(microsecond, timestamp '1970-01-01 00:00:00', utc_timestamp(6))

-- fragment: month_of_created
extract(year_month from timestamp '1970-01-01 00:00:00' + interval :created microsecond)

-- ── insert ──────────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: insert_jobs
-- New jobs: the columns in use and the rows are put in by the dialect. The ids of one insert follow each other, also
-- where those of several are given out at the same time.
insert into {prefix}job (/* columns */) values /* rows */;

-- name: ids_of_refs
-- The ids of new jobs, on a server that does not count by one (a cluster's nodes leave gaps for each other).
select ref_id, id from {prefix}job where ref_id in :refs;

-- name: taken_refs
-- Which of these ref ids exist, live or finished, and whose they are.
select ref_id, id from {prefix}job where ref_id in :refs
union all
select ref_id, id from {prefix}job_summary where ref_id in :refs and not {cancelled_for_good};

-- name: finished_refs
-- The same among finished jobs only: should one have run and ended between the look and the insert.
select ref_id from {prefix}job_summary where ref_id in :refs and not {cancelled_for_good};

-- name: key_holder
-- The unfinished job that keeps others of its command from a unique key.
select command, held_key, id, ref_id from {prefix}job where command = :command and held_key = :key;

-- name: note_dependents
-- From now on the end of these jobs is not theirs alone.
update {prefix}job force index (primary) set has_dependents = true where id in :ids and not has_dependents;

-- name: lock_parents
-- Live jobs that new ones depend on; they do not end before this transaction has.
select id, state, attempts, callback_attempts, owner from {prefix}job force index (primary) where id in :ids
order by id lock in share mode;

-- name: finished_parents
-- Those that have ended.
select id, state, attempts, callback_attempts, null from {prefix}job_summary where id in :ids;

-- name: depend
-- A child waits for a parent, or was cancelled because of it.
insert into {prefix}dependency (parent_id, child_id, bound_attempt, cancelled)
select new.parent_id, new.child_id, new.bound_attempt, coalesce(new.cancelled, false)
from json_table(:rows, '$[*]' columns (
    parent_id bigint path '$.parent_id', child_id bigint path '$.child_id',
    bound_attempt bigint path '$.bound_attempt', cancelled boolean path '$.cancelled'
)) as new
on duplicate key update bound_attempt = new.bound_attempt, cancelled = coalesce(new.cancelled, false);

-- name: lock_summaries
-- Jobs to be requeued, if these runs of them are the ones that have ended.
select ended.id, ended.ref_id
from json_table(:rows, '$[*]' columns (id bigint path '$.id', run integer path '$.run')) as wanted
straight_join {prefix}job_summary as ended force index (primary) on ended.id = wanted.id and ended.run = wanted.run
order by ended.id for update;

-- name: delete_summaries
-- These jobs are live again.
delete ended from {prefix}job_summary as ended force index (primary) where ended.id in :ids;

-- ── claim and start ─────────────────────────────────────────────────────────────────────────────────────────────────

-- name: is_alive
-- Whether a node may claim: one that was found dead gets nothing.
select 1 from {prefix}node where number = :owner and stopped is null and not lost;

-- name: next_command
-- The next kind of claimable jobs in a queue, by a step in the claim index. (Ordered by the queue as well, MariaDB goes
-- through all jobs of the kind when this is one of several selects.)
select claim_queue, claim_command from {prefix}job force index (job_claimable)
where claim_queue = :queue and claim_command > :command order by claim_command limit 1;

-- name: next_queue
-- The first kind of the next queue.
select claim_queue, claim_command from {prefix}job force index (job_claimable)
where claim_queue > :queue order by claim_queue, claim_command limit 1;

-- name: claimable
-- The best of one kind. Whole rows, but of those that are not common only these columns matter.
select id, ref_id, command, created, request, request_body, queue, priority, retry_limit, timeout, common,
    claim_queue
from {prefix}job force index (job_claimable)
where claim_queue = :queue and claim_command = :command
  and (expires is null or attempts > 0 or expires > :now)
order by turn, id limit :most for update skip locked;

-- name: claim
-- Own these jobs, which are locked.
update {prefix}job force index (primary) set owner = :owner, token = :token, claim_queue = null, claim_command = null,
    begun = false
where id in :ids;

-- name: claimed_by
-- What one call of an owner has claimed: asked when its answer was lost.
select {job_columns} from {prefix}job where owner = :owner and token = :token and not begun order by id;

-- name: read_jobs
-- Whole rows.
select {job_columns} from {prefix}job where id in :ids order by id;

-- name: lock_jobs
-- The same, and nobody else changes them before this transaction has ended.
select {job_columns} from {prefix}job force index (primary) where id in :ids order by id for update;

-- name: mark_started
-- The start of attempts. A key that is only held until the start is free.
update json_table(:rows, '$[*]' columns (
    id bigint path '$.id', owner bigint path '$.owner', state varchar(16) path '$.state',
    attempts bigint path '$.attempts', callback_attempts bigint path '$.callback_attempts',
    started bigint path '$.started', last_activity bigint path '$.last_activity', node mediumtext path '$.node',
    suspect boolean path '$.suspect', progress double path '$.progress', status mediumtext path '$.status'
)) as new
straight_join {prefix}job as job force index (primary) on job.id = new.id and job.owner = new.owner
set job.state = new.state, job.attempts = new.attempts, job.callback_attempts = new.callback_attempts,
    job.started = new.started, job.last_activity = new.last_activity, job.node = new.node,
    job.suspect = coalesce(new.suspect, false), job.progress = new.progress, job.status = new.status, job.begun = true,
    job.common = false, job.expiring = null, job.held_key = case when job.unique_until = 'start' then null else job.held_key end;

-- name: begun_among
-- Which of these jobs their owners have started.
select id from {prefix}job where id in :ids and begun;

-- name: marked_among
-- Which owners have started these jobs.
select id, owner from {prefix}job where id in :ids and begun;

-- name: report
-- The newest progress and sign of life.
update json_table(:rows, '$[*]' columns (
    id bigint path '$.id', owner bigint path '$.owner', progress double path '$.progress',
    status mediumtext path '$.status', at bigint path '$.at', overrunning bigint path '$.overrunning'
)) as new
straight_join {prefix}job as job force index (primary) on job.id = new.id and job.owner = new.owner
set job.progress = new.progress, job.status = new.status, job.last_activity = new.at,
    job.overrunning = new.overrunning, job.common = false;

-- ── settle ──────────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: held
-- Who owns these jobs now, which lanes they hold, who waits for them, and whether somebody wants them cancelled.
select id, owner, lane, lane_key, cancel_requested, cancelled_by, has_dependents
from {prefix}job force index (primary) where id in :ids order by id for update;

-- name: ended_as
-- Which of these jobs have ended, with the run, state and time of their ends: asked when an answer was lost.
select ended.id, ended.run, ended.state, finished.last_activity
from {prefix}job_summary as ended join {prefix}finished as finished
    on finished.id = ended.id and finished.run = ended.run and finished.month = ended.month
where ended.id in :ids;

-- name: place
-- Who owns waiting jobs, what parks them, and as what they can be claimed.
update json_table(:rows, '$[*]' columns (
    id bigint path '$.id', owner bigint path '$.owner', token bigint path '$.token', hold smallint path '$.hold',
    parents_left integer path '$.parents_left', suspect boolean path '$.suspect',
    claim_queue varchar(200) path '$.claim_queue', claim_command varchar(200) path '$.claim_command'
)) as new
straight_join {prefix}job as job force index (primary) on job.id = new.id
set job.owner = new.owner, job.token = new.token, job.hold = new.hold, job.parents_left = new.parents_left,
    job.suspect = new.suspect, job.claim_queue = new.claim_queue, job.claim_command = new.claim_command,
    job.begun = false, job.common = false, job.lane_held = case when new.hold is null then job.lane end,
    job.key_held = case when new.hold is null then job.lane_key end;

-- name: rewrite
-- Everything that an attempt or an operator can change of a job.
update json_table(:rows, '$[*]' columns (
    id bigint path '$.id', owner bigint path '$.owner', state varchar(16) path '$.state', hold smallint path '$.hold',
    parents_left integer path '$.parents_left', lane varchar(200) path '$.lane',
    lane_key varchar(200) path '$.lane_key', suspect boolean path '$.suspect', attempts bigint path '$.attempts',
    attempts_returned bigint path '$.attempts_returned', callback_attempts bigint path '$.callback_attempts',
    callback_returned bigint path '$.callback_returned', crashes integer path '$.crashes',
    started bigint path '$.started', completed bigint path '$.completed', notified bigint path '$.notified',
    last_activity bigint path '$.last_activity', duration_ms bigint path '$.duration_ms',
    progress double path '$.progress', status mediumtext path '$.status', response mediumtext path '$.response',
    response_body mediumtext path '$.response_body', error mediumtext path '$.error',
    error_code mediumtext path '$.error_code', error_message mediumtext path '$.error_message',
    overrunning bigint path '$.overrunning', cancel_requested bigint path '$.cancel_requested',
    cancelled_by mediumtext path '$.cancelled_by', node mediumtext path '$.node', meta mediumtext path '$.meta',
    history mediumtext path '$.history', work_done boolean path '$.work_done',
    callback_queue varchar(200) path '$.callback_queue', run_after bigint path '$.run_after',
    priority bigint path '$.priority', queue varchar(200) path '$.queue',
    claim_queue varchar(200) path '$.claim_queue', claim_command varchar(200) path '$.claim_command',
    keeps_key boolean path '$.keeps_key'
)) as new
straight_join {prefix}job as job force index (primary) on job.id = new.id
set job.owner = new.owner, job.token = null, job.state = new.state, job.hold = new.hold,
    job.parents_left = coalesce(new.parents_left, 0), job.lane = new.lane, job.lane_key = new.lane_key,
    job.suspect = coalesce(new.suspect, false), job.attempts = coalesce(new.attempts, 0),
    job.attempts_returned = coalesce(new.attempts_returned, 0),
    job.callback_attempts = coalesce(new.callback_attempts, 0),
    job.callback_returned = coalesce(new.callback_returned, 0), job.crashes = coalesce(new.crashes, 0),
    job.started = new.started, job.completed = new.completed, job.notified = new.notified,
    job.last_activity = new.last_activity, job.duration_ms = coalesce(new.duration_ms, 0),
    job.progress = new.progress, job.status = new.status, job.response = new.response,
    job.response_body = new.response_body, job.error = new.error, job.error_code = new.error_code,
    job.error_message = new.error_message, job.overrunning = new.overrunning,
    job.cancel_requested = new.cancel_requested, job.cancelled_by = new.cancelled_by, job.node = new.node,
    job.meta = new.meta, job.history = new.history, job.work_done = coalesce(new.work_done, false),
    job.callback_queue = new.callback_queue, job.run_after = new.run_after, job.priority = coalesce(new.priority, 0),
    job.queue = coalesce(new.queue, 'default'), job.claim_queue = new.claim_queue,
    job.claim_command = new.claim_command, job.begun = false, job.common = false,
    job.held_key = case when new.keeps_key then job.held_key end, job.turn = -coalesce(new.priority, 0),
    job.expiring = case when coalesce(new.attempts, 0) = 0 then job.expires end,
    job.lane_held = case when new.hold is null then new.lane end,
    job.key_held = case when new.hold is null then new.lane_key end;

-- name: archive_jobs
-- Finished jobs in the archive of their month. Their owner has them whole, so they are not copied from where they were:
-- that would be as many columns read from a document.
insert into {prefix}finished (/* columns */) values /* rows */;

-- name: summarize_jobs
-- What stays of them.
insert into {prefix}job_summary (/* columns */) values /* rows */;

-- name: leave
-- They are not in the queue any more.
delete job from {prefix}job as job force index (primary) where job.id in :ids;

-- ── dependents ──────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: children
-- Who waits for these jobs.
select parent_id, child_id from {prefix}dependency where parent_id in :ids and not cancelled
order by parent_id, child_id limit :most;

-- name: bound_children
-- Who belongs to attempts of jobs.
select bound.parent_id, bound.child_id
from json_table(:rows, '$[*]' columns (parent_id bigint path '$.parent_id', attempt bigint path '$.attempt')) as lost
straight_join {prefix}dependency as bound force index (primary)
    on bound.parent_id = lost.parent_id and bound.bound_attempt = lost.attempt
where not bound.cancelled
order by bound.parent_id, bound.child_id;

-- name: forget_dependencies
-- These children wait for these parents no more.
delete gone from json_table(:rows, '$[*]' columns (
    parent_id bigint path '$.parent_id', child_id bigint path '$.child_id'
)) as told
straight_join {prefix}dependency as gone force index (primary)
    on gone.parent_id = told.parent_id and gone.child_id = told.child_id;

-- name: keep_cancelled
-- These children were cancelled because of these parents.
update json_table(:rows, '$[*]' columns (
    parent_id bigint path '$.parent_id', child_id bigint path '$.child_id'
)) as told
straight_join {prefix}dependency as kept force index (primary)
    on kept.parent_id = told.parent_id and kept.child_id = told.child_id
set kept.cancelled = true;

-- name: follow_later
-- More dependents than one transaction may hold.
insert into {prefix}unfollowed (parent_id, state)
select new.parent_id, new.state from json_table(:rows, '$[*]' columns (
    parent_id bigint path '$.parent_id', state varchar(16) path '$.state'
)) as new
on duplicate key update state = new.state;

-- name: unfollowed
-- Whose dependents are still to be told.
select parent_id, state from {prefix}unfollowed force index (primary) order by parent_id limit :most
for update skip locked;

-- name: followed
-- They are told, or a new marker is written in the same transaction.
delete told from {prefix}unfollowed as told force index (primary) where told.parent_id in :ids;

-- ── lanes ───────────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: lock_lanes
-- Nobody else elects in these lanes before this transaction has ended. (A lane's name is one of a few numbers here: a
-- table of lanes would have to be cleared of those that nobody uses any more.)
select number from {prefix}turnstile force index (primary) where number in :numbers order by number for update;

-- name: try_lock_lanes
-- The same without waiting, for lanes that come up late: waiting out of turn could be for ever.
select number from {prefix}turnstile force index (primary) where number in :numbers order by number
for update skip locked;

-- name: lane_holders
-- The jobs that have these lanes: owned, or claimable.
select id, owner, priority, lane, lane_key, state, command, queue, callback, callback_queue from {prefix}job
where lane_held in :workers
union
select id, owner, priority, lane, lane_key, state, command, queue, callback, callback_queue from {prefix}job
where key_held in :keys;

-- name: waiting_for_worker
-- The best who wait for a worker.
select 'worker', id, owner, priority, lane, lane_key, state, command, queue, callback, callback_queue
from {prefix}job force index (job_lane_waiting) where lane = :name and hold = 3 order by turn, id limit :most;

-- name: waiting_for_key
-- The best who wait for a concurrency key.
select 'key', id, owner, priority, lane, lane_key, state, command, queue, callback, callback_queue
from {prefix}job force index (job_key_waiting) where lane_key = :name and hold = 3 order by turn, id limit :most;

-- name: free_to_seat
-- Waiting jobs that nobody is changing now: whoever does looks at their lanes himself.
select id from {prefix}job force index (primary) where id in :ids and hold = 3 order by id for update skip locked;

-- name: seat
-- Waiting jobs, which are locked, get their lanes.
update json_table(:rows, '$[*]' columns (
    id bigint path '$.id', owner bigint path '$.owner', token bigint path '$.token',
    claim_queue varchar(200) path '$.claim_queue', claim_command varchar(200) path '$.claim_command'
)) as new
straight_join {prefix}job as job force index (primary) on job.id = new.id
set job.owner = new.owner, job.token = new.token, job.hold = null, job.claim_queue = new.claim_queue,
    job.claim_command = new.claim_command, job.begun = false, job.common = false, job.lane_held = job.lane,
    job.key_held = job.lane_key;

-- name: free_to_unseat
-- Claimable jobs that nobody is claiming now.
select id from {prefix}job force index (primary) where id in :ids and owner is null and hold is null
order by id for update skip locked;

-- name: unseat
-- Claimable jobs, which are locked, give way to better ones.
update {prefix}job force index (primary) set hold = 3, claim_queue = null, claim_command = null, lane_held = null,
    key_held = null
where id in :ids;

-- ── time, operators, dead owners ────────────────────────────────────────────────────────────────────────────────────

-- name: due
-- Jobs whose time has come; another node may be waking some of them.
select {job_columns} from {prefix}job force index (job_due) where hold = 2 and run_after <= :now order by run_after
limit :most for update skip locked;

-- name: expired
-- Waiting jobs that were not started in time.
select {job_columns} from {prefix}job force index (job_expires) where expiring <= :now and owner is null
order by expiring limit :most for update skip locked;

-- name: next_moment
-- When the next one is due or expires.
select min(moment) from (
    select min(run_after) as moment from {prefix}job where hold = 2
    union all
    (
        select expiring from {prefix}job force index (job_expires) where expiring is not null and owner is null
        order by expiring limit 1
    )
) as moments;

-- name: request_cancellation
-- The owners of these jobs are to end them.
update json_table(:rows, '$[*]' columns (
    id bigint path '$.id', cancel_requested bigint path '$.cancel_requested',
    cancelled_by mediumtext path '$.cancelled_by'
)) as new
straight_join {prefix}job as job force index (primary) on job.id = new.id
set job.cancel_requested = new.cancel_requested, job.cancelled_by = new.cancelled_by, job.common = false;

-- name: finished_among
-- Which of these have ended.
select id from {prefix}job_summary where id in :ids;

-- name: try_maintain
-- Whether this transaction may rescue: one node at a time does.
select number from {prefix}turnstile force index (primary) where number = -1 for update skip locked;

-- name: bury
-- Nodes that have been silent for their lease are dead, and stay so.
update {prefix}node set lost = true, executing = false, standby = false
where not lost and stopped is null and seen + lease < {now};

-- name: orphaned
-- Jobs whose owner is dead.
select orphan.id, orphan.begun
from (select distinct owner as number from {prefix}job where owner is not null) as owner
left join {prefix}node as node on node.number = owner.number and node.stopped is null and not node.lost
join {prefix}job as orphan on orphan.owner = owner.number
where node.number is null
limit :most;

-- ── counts ──────────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: write_tallies
-- What a node has counted in an hour so far.
insert into {prefix}tally (hour, kind, command, worker, queue, outcome, node, count, time_ms, histogram)
select new.hour, new.kind, new.command, new.worker, new.queue, new.outcome, new.node, new.count, new.time_ms,
    new.histogram
from json_table(:rows, '$[*]' columns (
    hour bigint path '$.hour', kind varchar(16) path '$.kind', command varchar(200) path '$.command',
    worker varchar(200) path '$.worker', queue varchar(200) path '$.queue', outcome varchar(16) path '$.outcome',
    node bigint path '$.node', count bigint path '$.count', time_ms double path '$.time_ms',
    histogram mediumtext path '$.histogram'
)) as new
on duplicate key update count = new.count, time_ms = new.time_ms, histogram = new.histogram;

-- ── logs ────────────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: last_line
-- The number of the last line of a job's log.
select job_id, sequence from {prefix}log where job_id = :id and month = :month order by sequence desc limit 1;

-- name: append_logs
-- Lines, with the next numbers of their jobs.
insert into {prefix}log (/* columns */) values /* rows */;

-- ── processes ───────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: add_node
-- A process has started.
insert into {prefix}node (id, name, pid, version, started, heartbeat, stopped, draining, executing, standby, running,
    concurrency, queues, commands, machine, lease, seen)
values (:id, :name, :pid, :version, :started, :heartbeat, :stopped, :draining, :executing, :standby, :running,
    :concurrency, :queues, :commands, :machine, :lease, {now});

-- name: keep_node
-- What a process says of itself. One that was found dead stays so.
update {prefix}node set heartbeat = :heartbeat, stopped = coalesce(stopped, :stopped), draining = :draining,
    executing = :executing and not lost, standby = :standby and not lost, running = :running,
    concurrency = :concurrency, queues = :queues, commands = :commands, seen = case when lost then seen else {now} end
where number = :number;

-- name: renew_lease
-- A process lives; no row if it was found dead.
update {prefix}node set seen = {now} where number = :number and not lost;

-- name: forget_nodes
-- Processes that stopped, or were last heard of, long ago, and own nothing.
delete from {prefix}node
where coalesce(stopped, heartbeat) < :before
  and not exists (select 1 from {prefix}job as job where job.owner = {prefix}node.number);

-- name: nodes
-- All processes known; one that was found dead ended with its last heartbeat.
select number, id, name, pid, version, started, heartbeat, case when lost then coalesce(stopped, heartbeat) else stopped
       end, draining, executing, standby, running, concurrency, queues, commands
from {prefix}node order by number;

-- name: neighbours
-- Other processes of this machine that have not said that they stopped.
select number, pid from {prefix}node where machine = :machine and number <> :number and stopped is null and not lost;

-- name: bury_nodes
-- These processes are gone.
update {prefix}node set lost = true, executing = false, standby = false where number in :numbers;

-- name: cancellations
-- Jobs of an owner that somebody wants to end.
select id, cancelled_by from {prefix}job where owner = :owner and cancel_requested is not null;

-- name: stirred
-- Whether there is anything due, or left to sweep.
select exists (select 1 from {prefix}job where hold = 2 and run_after <= {now}) or exists (select 1 from {prefix}unfollowed);

-- name: clock
-- The database's time.
select {now};

-- ── looking ─────────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: id_of_ref
-- The job with a ref id.
select id from {prefix}job where ref_id = :ref
union all
select id from {prefix}job_summary where ref_id = :ref and not {cancelled_for_good};

-- name: find_rows
-- Whole rows wherever they are, and first whether there is one: of a dropped month only the summary is left.
select true, {job_columns} from {prefix}job where id in :ids
union all
select finished.id is not null,
    ended.id, ended.ref_id, ended.command, ended.created, finished.request, finished.request_body,
    ended.queue, coalesce(finished.priority, 0), coalesce(finished.retry_limit, 2), finished.timeout,
    null, ended.state, null, coalesce(finished.parents_left, 0), finished.lane, finished.lane_key,
    coalesce(finished.suspect, false), ended.run,
    ended.attempts, coalesce(finished.attempts_returned, 0), ended.callback_attempts,
    coalesce(finished.callback_returned, 0), coalesce(finished.crashes, 0),
    ended.started, ended.completed, finished.notified, finished.last_activity, ended.duration_ms,
    finished.progress, finished.status,
    finished.response, finished.response_body, finished.error, ended.error_code, ended.error_message,
    finished.overrunning, finished.cancel_requested, finished.cancelled_by, finished.node, finished.meta,
    finished.history, coalesce(finished.work_done, false),
    coalesce(finished.request_type, 'CMD'), ended.worker, ended.tags, ended.batch_id, finished.callback,
    finished.callback_queue,
    finished.depends_on, coalesce(finished.depends_on_policy, 'success'), finished.bound_attempt, ended.parent_id,
    finished.run_after, finished.expires,
    ended.created_by, ended.user_id, ended.tenant_id, finished.reply_to, finished.unique_key,
    coalesce(finished.unique_until, 'finish'), finished.concurrency_key,
    ended.args, finished.trace_id, coalesce(finished.rerun_after_crash, true)
from {prefix}job_summary as ended left join {prefix}finished as finished
    on finished.id = ended.id and finished.run = ended.run and finished.month = ended.month
where ended.id in :ids;

-- name: earlier_runs
-- The archived rows of a job's runs before the newest.
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
from {prefix}finished where id = :id and month = {month_of_created} and run < :run order by run;

-- name: created
-- When a job was created.
select created from {prefix}job where id = :id
union all
select created from {prefix}job_summary where id = :id;

-- name: logs
-- A piece of a job's log.
select sequence, at, level, logger, message, exception, attempt from {prefix}log
where job_id = :id and month = {month_of_created} and sequence > :after order by sequence limit :most;

-- name: unfinished_among
-- Which of these jobs have not ended, and the highest id there was.
select id from {prefix}job where id in :ids
union all
select -greatest(
    coalesce((select max(id) from {prefix}job), 0),
    coalesce((select max(id) from {prefix}job_summary), 0),
    coalesce((select max(highest) from {prefix}forgotten), 0)
);

-- name: cancelled_dependents
-- Jobs that were cancelled because of this one, as long as anything is known of them.
select child_id from {prefix}dependency
where parent_id = :id and cancelled
  and (exists (select 1 from {prefix}job_summary where id = child_id)
       or exists (select 1 from {prefix}job where id = child_id))
order by child_id;

-- name: lanes
-- Live jobs by queue and worker.
select queue, worker, count(case when not begun then 1 end),
       count(case when not begun and (hold is null or hold = 3) then 1 end), count(case when begun then 1 end),
       min(case when not begun and (hold is null or hold = 3) then greatest(created, coalesce(run_after, 0)) end)
from {prefix}job group by queue, worker order by queue, worker;

-- name: tallies
-- What was counted since.
select hour, kind, command, worker, queue, outcome, count, time_ms, histogram from {prefix}tally where hour >= :since;

-- ── months ──────────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: partitions
-- The months of the archive, by the names of their partitions.
select partition_name from information_schema.partitions
where table_schema = database() and table_name = '{prefix}finished' order by partition_name;

-- name: newest_end
-- When the last job of a month has ended: each month's look is into one partition.
select :month, (select max(last_activity) from {prefix}finished where month = :month);

-- name: summaries_of_month
-- A piece of the jobs created in a month that have ended, by id.
select id from {prefix}job_summary
where id > :after
  and month = extract(year_month from timestamp '1970-01-01 00:00:00' + interval :first microsecond)
order by id limit :most;

-- name: note_highest
-- Ids that were given out and leave no trace.
insert into {prefix}forgotten (highest) values (:highest);

-- name: drop_summaries
-- Jobs that are forgotten.
delete ended from {prefix}job_summary as ended force index (primary) where ended.id in :ids;

-- name: drop_dependencies
-- Nobody was cancelled because of them, and they because of nobody, any more.
delete from {prefix}dependency where cancelled and parent_id in :ids;

-- ── find: filters stand in both halves ──────────────────────────────────────────────────────────────────────────────

-- name: find
-- The newest of the queue and of the history, each by its own index: a view of both would be read whole.
select {summary_columns} from (
    (select {summary_columns} from {prefix}job where true /* conditions */ order by id desc limit :limit)
    union all
    (select {summary_columns} from {prefix}job_summary where true /* conditions */ order by id desc limit :limit)
) as found
order by id desc limit :limit;

-- name: count
-- How many match, up to a limit.
select count(*) from (
    (select 1 from {prefix}job where true /* conditions */ limit :limit)
    union all
    (select 1 from {prefix}job_summary where true /* conditions */ limit :limit)
    limit :limit
) as matching;

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
id in :ids

-- name: where_states
state in :states

-- name: where_unsuccessful
state <> 'Completed'

-- name: where_tag
json_contains(tags, :tag_json)

-- name: where_args
json_contains(args, :args)

-- name: where_since
created >= :since

-- name: where_until
created < :until

-- name: where_text
(
    instr(lower(ref_id), :text) or instr(lower(command), :text) or instr(lower(worker), :text)
    or instr(lower(error_message), :text)
    or exists (
        select 1 from json_table(tags, '$[*]' columns (tag varchar(200) path '$')) as tagged
        where instr(lower(tagged.tag), :text)
    )
)
