-- The record only grows, whatever the program does; a role that owns the tables could still remove
-- the triggers, and checkpoints show that.
CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit record is append-only';
END
$$;

CREATE FUNCTION audit_at_its_end() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    last BIGINT;
BEGIN
    EXECUTE format('SELECT COALESCE(MAX(number), 0) FROM %I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME)
        INTO last;
    IF NEW.number <> last + 1 THEN
        RAISE EXCEPTION 'the audit record is append-only';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER audit_never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_only_at_its_end BEFORE INSERT ON audit
    FOR EACH ROW EXECUTE FUNCTION audit_at_its_end();
CREATE TRIGGER audit_checkpoints_never_changed
    BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_checkpoints_only_at_its_end BEFORE INSERT ON audit_checkpoints
    FOR EACH ROW EXECUTE FUNCTION audit_at_its_end();
