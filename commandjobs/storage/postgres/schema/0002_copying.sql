-- The copy of another storage that is being made here, or was: see `Copying` in storage/base.py.
create table {schema}.copying (
    place integer primary key check (place = 1),
    source text not null,
    run text not null,
    last_id bigint not null,
    source_node bigint not null,
    target_node bigint not null,
    after bigint not null,
    ref_id text,
    done boolean not null
);
