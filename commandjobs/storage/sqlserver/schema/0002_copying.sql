-- The copy of another storage that is being made here, or was: see `Copying` in storage/base.py.
create table {schema}.copying (
    place int not null primary key check (place = 1),
    source nvarchar(max) not null,
    run nvarchar(400) collate Latin1_General_100_BIN2 not null,
    last_id bigint not null,
    source_node bigint not null,
    target_node bigint not null,
    after bigint not null,
    ref_id nvarchar(400) collate Latin1_General_100_BIN2,
    done bit not null
);
go
