-- What SpiceDB 1.54 keeps in PostgreSQL. The embedded library cannot make it (`spicedb datastore migrate` does, elsewhere).
-- Primary keys, uniqueness and the covering indexes that Check uses are those of its own migrations.
CREATE TABLE alembic_version (version_num varchar NOT NULL);
CREATE TABLE metadata (unique_id varchar PRIMARY KEY);
INSERT INTO metadata VALUES (gen_random_uuid()::varchar);
CREATE TABLE relation_tuple_transaction (
  xid xid8 PRIMARY KEY DEFAULT pg_current_xact_id(),
  snapshot pg_snapshot DEFAULT pg_current_snapshot(),
  timestamp timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
  metadata jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX ON relation_tuple_transaction (timestamp);
CREATE TABLE namespace_config (
  namespace varchar NOT NULL,
  serialized_config bytea NOT NULL,
  created_xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  deleted_xid xid8 NOT NULL DEFAULT '9223372036854775807',
  PRIMARY KEY (namespace, created_xid, deleted_xid),
  UNIQUE (namespace, deleted_xid)
);
CREATE TABLE caveat (
  name varchar NOT NULL,
  definition bytea NOT NULL,
  created_xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  deleted_xid xid8 NOT NULL DEFAULT '9223372036854775807',
  PRIMARY KEY (name, deleted_xid),
  UNIQUE (name, created_xid, deleted_xid)
);
CREATE TABLE relation_tuple (
  namespace varchar NOT NULL,
  object_id varchar NOT NULL,
  relation varchar NOT NULL,
  userset_namespace varchar NOT NULL,
  userset_object_id varchar NOT NULL,
  userset_relation varchar NOT NULL,
  caveat_name varchar,
  caveat_context jsonb,
  created_xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  deleted_xid xid8 NOT NULL DEFAULT '9223372036854775807',
  expiration timestamptz,
  PRIMARY KEY (namespace, object_id, relation, userset_namespace, userset_object_id, userset_relation,
               created_xid, deleted_xid),
  CONSTRAINT uq_relation_tuple_living_xid
    UNIQUE (namespace, object_id, relation, userset_namespace, userset_object_id, userset_relation, deleted_xid)
);
CREATE INDEX ON relation_tuple
  (namespace, object_id, relation, userset_namespace, userset_object_id, userset_relation)
  INCLUDE (caveat_name, caveat_context, expiration) WHERE deleted_xid = '9223372036854775807';
CREATE INDEX ON relation_tuple
  (userset_object_id, userset_namespace, userset_relation, namespace, relation);
CREATE TABLE relationship_counter (
  name varchar PRIMARY KEY,
  serialized_filter bytea NOT NULL,
  current_count bigint NOT NULL DEFAULT 0,
  updated_revision_snapshot pg_snapshot,
  created_xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  deleted_xid xid8 NOT NULL DEFAULT '9223372036854775807',
  UNIQUE (name, deleted_xid)
);
CREATE TABLE schema (
  name varchar NOT NULL,
  chunk_index int NOT NULL,
  chunk_data bytea NOT NULL,
  created_xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  deleted_xid xid8 NOT NULL DEFAULT '9223372036854775807',
  PRIMARY KEY (name, chunk_index, created_xid)
);
CREATE TABLE schema_revision (
  name varchar NOT NULL DEFAULT 'current',
  hash bytea NOT NULL,
  created_xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  deleted_xid xid8 NOT NULL DEFAULT '9223372036854775807',
  PRIMARY KEY (name, created_xid)
);
INSERT INTO relation_tuple_transaction DEFAULT VALUES;
