-- What it takes to bring a schema up to date.

-- name: database
-- Whether readers see the last committed version of a row instead of waiting for its writer, and since when the database
-- understands what is asked of it here.
select is_read_committed_snapshot_on, compatibility_level from sys.databases where database_id = db_id();

-- name: objects
-- Whether the schema is there, and its table of migrations.
select
    (select count(*) from sys.schemas where name = :schema),
    (select count(*) from sys.tables where schema_id = schema_id(:schema) and name = N'migration');

-- name: create_schema
-- Of two processes that find none, one makes it, and the other looks again.
create schema {schema};

-- name: create_migration
-- Which schema files were run.
create table {schema}.migration (
    number int not null primary key,
    name nvarchar(400) not null,
    applied datetime2 not null default sysutcdatetime()
);

-- name: version
-- The last file that was run.
select coalesce(max(number), 0) from {schema}.migration;

-- name: lock_version
-- The same, and nobody else runs any before this transaction has ended.
select coalesce(max(number), 0) from {schema}.migration with (tablockx, holdlock);

-- name: note_migration
-- A file was run.
insert into {schema}.migration (number, name) values (:number, :name);
