"""Verifies tokens with PyJWT, unmodified, against a JWKS read over HTTP.

Usage: python verify.py CASES.json
CASES.json: [{"name", "jwks_uri", "algorithm", "issuer", "jwt"}]. A null issuer is not checked.
Prints [{"name", "verified", "error"}] in the same order; the caller knows what it expects.
"""

import json
import sys

import jwt


def verify(clients, case):
    uri = case["jwks_uri"]
    if uri not in clients:
        clients[uri] = jwt.PyJWKClient(uri, timeout=10)
    try:
        key = clients[uri].get_signing_key_from_jwt(case["jwt"])
        options = {"algorithms": [case["algorithm"]], "options": {"verify_aud": False}}
        if case["issuer"] is not None:
            options["issuer"] = case["issuer"]
        jwt.decode(case["jwt"], key, **options)
    except jwt.PyJWTError as error:
        return {"name": case["name"], "verified": False, "error": type(error).__name__}
    return {"name": case["name"], "verified": True, "error": None}


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        cases = json.load(file)
    clients = {}
    print(json.dumps([verify(clients, case) for case in cases]))


main()
