-- The copy of another storage that is being made here, or was: see `Copying` in storage/base.py.
create table copying (
    place integer primary key check (place = 1),
    source text not null,
    run text not null,
    last_id integer not null,
    source_node integer not null,
    target_node integer not null,
    after integer not null,
    ref_id text,
    done integer not null
);
