-- Which process serves the database: one at a time. Each that takes it over raises `epoch`, and
-- every transaction that writes locks this row first and finds its own epoch in it, so that writers
-- go one after the other and one that was replaced writes nothing more. `released` says that the
-- last one ended in order, so that nobody can still be signing.
CREATE TABLE claim (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    epoch BIGINT NOT NULL CHECK (epoch >= 0),
    released BIGINT NOT NULL CHECK (released IN (0, 1))
);
INSERT INTO claim (id, epoch, released) VALUES (1, 0, 1);
