"""Verifies a Signkeep audit record; written from docs/audit.md alone.

Usage: python audit_verify.py KEYS.json FILE...
Prints {"sound": true, "records", "checkpoints", "unsigned", "head"}, or {"sound": false, "record",
"checkpoint", "what"} with the number of the first record, or of the checkpoint, that is wrong.
"""

import base64
import hashlib
import json
import sys

import jwt


class Wrong(Exception):
    """What is wrong, with which record or which checkpoint."""

    def __init__(self, what, record=None, checkpoint=None):
        super().__init__({"sound": False, "record": record, "checkpoint": checkpoint, "what": what})


def canonical(value):
    """RFC 8785, for objects of strings and whole numbers with ASCII names."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def root(leaves):
    """RFC 6962 section 2.1, over the bytes of the records' hashes."""
    if len(leaves) == 1:
        return sha256(b"\0", leaves[0])
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return sha256(b"\1", root(leaves[:half]), root(leaves[half:]))


def records(lines):
    head = "0" * 64
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            same = canonical(record) == line
            content = {name: value for name, value in record.items() if name != "hash"}
            fits = record["hash"] == sha256(canonical(content)).hex()
            follows = record["number"] == number and record["previous"] == head
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise Wrong(f"unreadable: {error!r}", record=number) from error
        if not same or not fits:
            raise Wrong("changed", record=number)
        if record["number"] != number:
            raise Wrong(f"record {record['number']} stands in its place", record=number)
        if not follows:
            raise Wrong("does not follow the one before it", record=number)
        head = record["hash"]
        yield bytes.fromhex(head)


def checkpoints(lines, keys, hashes):
    signed, before = 0, "0" * 64
    for number, line in enumerate(lines, 1):
        try:
            jws = json.loads(line)["checkpoint"]
            header = jwt.get_unverified_header(jws)
            key = keys[header["kid"]]
            jwt.api_jws.decode(jws, key, algorithms=[key.algorithm_name])
            payload = base64.urlsafe_b64decode(jws.split(".")[1] + "==")
            said = json.loads(payload)
            assert canonical({"checkpoint": jws}) == line and canonical(said) == payload
            assert header["typ"] == "signkeep-checkpoint+jws" and header["alg"] == key.algorithm_name
            assert said["number"] == number and said["previous"] == before
            assert said["first"] == signed + 1 <= said["last"] <= len(hashes)
            assert said["head"] == hashes[said["last"] - 1].hex()
            assert said["root"] == root(hashes[signed:said["last"]]).hex()
        except (jwt.PyJWTError, ValueError, KeyError, AssertionError, TypeError) as error:
            raise Wrong(f"{type(error).__name__}: {error}", checkpoint=number) from error
        signed, before = said["last"], sha256(jws.encode()).hex()
    return signed


def main(keys_file, *files):
    with open(keys_file, encoding="utf-8") as file:
        keys = {key.key_id: key for key in jwt.PyJWKSet.from_json(file.read()).keys}
    lines = [line for name in files for line in open(name, "rb").read().split(b"\n")[:-1]]
    signatures = [line for line in lines if line.startswith(b'{"checkpoint":"')]
    try:
        hashes = list(records(line for line in lines if not line.startswith(b'{"checkpoint":"')))
        signed = checkpoints(signatures, keys, hashes)
    except Wrong as wrong:
        return wrong.args[0]
    counts = {"records": len(hashes), "checkpoints": len(signatures)}
    head = hashes[-1].hex() if hashes else "0" * 64
    return {"sound": True, **counts, "unsigned": len(hashes) - signed, "head": head}


print(json.dumps(main(*sys.argv[1:])))
