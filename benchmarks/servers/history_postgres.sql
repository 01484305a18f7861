-- 1,000,000 finished jobs over the last twelve months, as they lie after years of use.

do $$
declare
    month timestamp;
begin
    for back in 1..12 loop
        month := date_trunc('month', now() at time zone 'UTC') - make_interval(months => back);
        execute format(
            'create table if not exists commandjobs.finished_%s partition of commandjobs.finished for values from (%s) to (%s)',
            to_char(month, 'YYYY_MM'),
            (extract(epoch from month) * 1000000)::bigint,
            (extract(epoch from month + interval '1 month') * 1000000)::bigint
        );
    end loop;
end $$;

create temporary table past as
select n as id,
       md5(n::text) as ref_id,
       ((extract(epoch from date_trunc('month', now() at time zone 'UTC')
           - make_interval(months => (1 + n % 12)::integer)) + 86400) * 1000000)::bigint + n as created
from generate_series(1, 1000000) as n;

insert into commandjobs.finished
    (id, run, created, ref_id, command, request, request_body, queue, priority, retry_limit, timeout, state, attempts,
     started, completed, last_activity, duration_ms, progress, node)
select id, 0, created, ref_id, 'Send', 'Mail', '{"to":"my@email.com","n":' || id || '}', 'default', 0, 2, 600, 'Completed', 1,
       created + 1000, created + 2000, created + 2000, 1, 1.0, 'bench:1'
from past;

insert into commandjobs.job_summary (id, ref_id, command, created, state, started, completed, duration_ms, attempts)
select id, ref_id, 'Send', created, 'Completed', created + 1000, created + 2000, 1, 1
from past;

select setval(pg_get_serial_sequence('commandjobs.job', 'id'), 1000000);
