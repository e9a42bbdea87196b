"""Verifies tokens with auth0-python's TokenVerifier, which finds the JWKS through discovery.

Usage: python auth0_verify.py CASES.json
Takes and prints what verify.py does; the tokens are ID tokens for the audience "app". `jwks_uri` is
found at the issuer.
"""

import json
import sys

import requests
from auth0.authentication.exceptions import TokenValidationError
from auth0.authentication.token_verifier import AsymmetricSignatureVerifier, TokenVerifier


def verify(case):
    found = requests.get(f"{case['issuer']}.well-known/openid-configuration", timeout=10).json()
    assert found["issuer"] == case["issuer"]
    assert case["algorithm"] in found["id_token_signing_alg_values_supported"]
    signatures = AsymmetricSignatureVerifier(found["jwks_uri"])
    try:
        verifier = TokenVerifier(signatures, issuer=case["issuer"], audience="app")
        verifier.verify(case["jwt"])
    except TokenValidationError as error:
        return {"name": case["name"], "verified": False, "error": str(error)}
    return {"name": case["name"], "verified": True, "error": None}


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        cases = json.load(file)
    print(json.dumps([verify(case) for case in cases]))


main()
