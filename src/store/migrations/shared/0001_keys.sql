-- The truth about keys. Times (`…_us`, when) are microseconds since 1970-01-01 UTC, spans
-- (`…_us`, how long: *_delay, *_ttl, retention, rotation_period, destroy_after) are microseconds.
-- To read a time, in SQLite: SELECT kid, state, datetime(publish_us / 1000000, 'unixepoch') FROM keys;
-- in PostgreSQL: SELECT kid, state, to_timestamp(publish_us / 1000000.0) FROM keys;
--
-- One text for every engine; what only one of them understands stands in its own folder.

-- One row: the number of the last change.
CREATE TABLE revision (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    number BIGINT NOT NULL CHECK (number >= 0)
);
INSERT INTO revision (id, number) VALUES (1, 0);

-- One row, rewritten to find out whether the store can be written to.
CREATE TABLE probe (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    number BIGINT NOT NULL
);
INSERT INTO probe (id, number) VALUES (1, 0);

CREATE TABLE key_sets (
    id TEXT PRIMARY KEY,
    algorithm TEXT NOT NULL CHECK (algorithm IN
        ('RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA')),
    issuer TEXT NOT NULL,
    backend TEXT NOT NULL,
    propagation_delay_us BIGINT NOT NULL CHECK (propagation_delay_us >= 0),
    max_token_ttl_us BIGINT NOT NULL CHECK (max_token_ttl_us >= 0),
    retention_us BIGINT CHECK (retention_us >= 0),
    rotation_period_us BIGINT CHECK (rotation_period_us >= 0),
    destroy_after_us BIGINT NOT NULL CHECK (destroy_after_us >= 0),
    rsa_bits BIGINT NOT NULL CHECK (rsa_bits IN (2048, 3072, 4096)),
    service TEXT NOT NULL CHECK (service IN ('enabled', 'disabled', 'deleted')),
    rotation_hold TEXT NOT NULL CHECK (rotation_hold IN ('off', 'on')),
    undo_kid TEXT,
    undo_reinstates TEXT,
    revision BIGINT NOT NULL CHECK (revision > 0),
    created_us BIGINT NOT NULL
);

-- Every key that was ever published, destroyed ones included. `kid` alone is the primary key: a
-- public key belongs to one key set. `kid_bytes` is the same, as the bytes that listings order by.
-- The public key stands in the terms of JWK (RFC 7518 section 6, RFC 8037): base64url, unpadded.
CREATE TABLE keys (
    kid TEXT PRIMARY KEY CHECK (length(kid) = 43),
    kid_bytes BYTEA NOT NULL CHECK (length(kid_bytes) = 32),
    material TEXT NOT NULL UNIQUE CHECK (length(material) = 32),
    key_set TEXT NOT NULL REFERENCES key_sets (id),
    algorithm TEXT NOT NULL CHECK (algorithm IN
        ('RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA')),
    backend TEXT NOT NULL,
    object TEXT NOT NULL,
    kty TEXT NOT NULL CHECK (kty IN ('RSA', 'EC', 'OKP')),
    n TEXT,
    e TEXT,
    crv TEXT CHECK (crv IN ('P-256', 'P-384', 'P-521', 'Ed25519')),
    x TEXT,
    y TEXT,
    certificate BYTEA NOT NULL,
    created_us BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN
        ('next', 'current', 'previous', 'retired', 'revoked', 'destroyed')),
    publish_us BIGINT NOT NULL,
    propagation_delay_us BIGINT CHECK (propagation_delay_us >= 0),
    token_ttl_us BIGINT CHECK (token_ttl_us >= 0),
    current_since_us BIGINT,
    current_until_us BIGINT,
    tokens_until_us BIGINT,
    retire_us BIGINT,
    revoke_us BIGINT,
    revoke_reason TEXT,
    destroy_due_us BIGINT,
    destroy_us BIGINT,
    CHECK (CASE kty
        WHEN 'RSA' THEN n IS NOT NULL AND e IS NOT NULL
        WHEN 'EC' THEN crv IS NOT NULL AND x IS NOT NULL AND y IS NOT NULL
        ELSE crv IS NOT NULL AND x IS NOT NULL
    END),
    -- Each state has the times that are true in it.
    CHECK (CASE state
        WHEN 'next' THEN propagation_delay_us IS NOT NULL
        WHEN 'current' THEN current_since_us IS NOT NULL AND token_ttl_us IS NOT NULL
        WHEN 'previous' THEN current_until_us IS NOT NULL
        WHEN 'retired' THEN retire_us IS NOT NULL AND destroy_due_us IS NOT NULL
        WHEN 'revoked' THEN revoke_us IS NOT NULL AND revoke_reason IS NOT NULL
            AND destroy_due_us IS NOT NULL
        ELSE destroy_us IS NOT NULL AND revoke_reason IS NOT NULL
    END),
    -- A time as current that has ended is known in full.
    CHECK (current_until_us IS NULL OR (current_since_us IS NOT NULL AND tokens_until_us IS NOT NULL))
);

-- A key set never has two current or two next keys, whatever the program does.
CREATE UNIQUE INDEX keys_one_current ON keys (key_set) WHERE state = 'current';
CREATE UNIQUE INDEX keys_one_next ON keys (key_set) WHERE state = 'next';
CREATE INDEX keys_by_age ON keys (key_set, created_us, kid_bytes);

-- Material that is being generated (the state `pending`), or was and is not wanted.
CREATE TABLE reservations (
    material TEXT PRIMARY KEY CHECK (length(material) = 32),
    key_set TEXT NOT NULL,
    algorithm TEXT NOT NULL CHECK (algorithm IN
        ('RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA')),
    spec TEXT NOT NULL CHECK (spec IN
        ('RSA 2048', 'RSA 3072', 'RSA 4096', 'P-256', 'P-384', 'P-521', 'Ed25519')),
    backend TEXT NOT NULL,
    reserved_us BIGINT NOT NULL,
    -- The replica that generates it; null where one process alone serves the store.
    owner TEXT,
    abandoned BIGINT NOT NULL DEFAULT 0 CHECK (abandoned IN (0, 1))
);

-- Answers that are given again if the request is repeated.
CREATE TABLE answers (
    caller TEXT NOT NULL,
    request_id TEXT NOT NULL,
    asked BYTEA NOT NULL CHECK (length(asked) = 32),
    time_us BIGINT NOT NULL,
    body TEXT NOT NULL,
    revision BIGINT NOT NULL,
    PRIMARY KEY (caller, request_id)
);
CREATE INDEX answers_by_time ON answers (time_us);

-- What was done, for whom and why: numbered without a gap, each bound by its hash to the one before.
-- What is hashed is described in docs/audit.md; every column takes part.
CREATE TABLE audit (
    number BIGINT PRIMARY KEY CHECK (number > 0 AND number < 9007199254740992),
    time_us BIGINT NOT NULL,
    caller TEXT NOT NULL,
    listener TEXT NOT NULL,
    action TEXT NOT NULL CHECK (action IN
        ('create', 'update', 'disable', 'enable', 'delete', 'rotate', 'revoke', 'rollback', 'mend',
         'retire', 'destroy', 'sign', 'sign_jwt', 'view', 'gap', 'flaw', 'start', 'stop')),
    key_set TEXT,
    kid TEXT,
    outcome TEXT NOT NULL CHECK (outcome IN ('done', 'refused', 'failed', 'withheld', 'lost')),
    reason TEXT NOT NULL,
    request TEXT NOT NULL,
    digest TEXT,
    count BIGINT NOT NULL CHECK (count >= 0 AND count < 9007199254740992),
    detail TEXT NOT NULL,
    previous BYTEA NOT NULL CHECK (length(previous) = 32),
    hash BYTEA NOT NULL CHECK (length(hash) = 32)
);

-- Signed statements over the records up to `last`, as compact JWS.
CREATE TABLE audit_checkpoints (
    number BIGINT PRIMARY KEY CHECK (number > 0 AND number < 9007199254740992),
    last BIGINT NOT NULL CHECK (last > 0),
    jws TEXT NOT NULL
);

-- Salted Argon2id hashes of PINs that tokens refused, by the token's serial number.
CREATE TABLE refused_pins (
    token TEXT PRIMARY KEY,
    hash TEXT NOT NULL
);
