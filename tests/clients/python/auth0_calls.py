"""Calls the Management API with auth0-python, unmodified.

Usage: python auth0_calls.py STORY.json
STORY.json: {"domain", "client_id", and "client_secret" or "private_key" (PEM, ES256), "steps"}; a
step is ["list"], ["get", KID], ["rotate"] or ["revoke", KID], where $next, $current and $previous
stand for the kid that the last list had there.
Prints [{"ok": …} or {"status", "code", "message"}] in the same order.
"""

import json
import sys

import httpx
from auth0.authentication import GetToken
from auth0.management import ManagementClient
from auth0.management.core.api_error import ApiError

PLACES = ("next", "current", "previous")


def client(story):
    names = {"domain": story["domain"], "client_id": story["client_id"]}
    if "client_secret" in story:
        return ManagementClient(client_secret=story["client_secret"], **names)
    key = {"client_assertion_signing_key": story["private_key"]}
    token = GetToken(client_assertion_signing_alg="ES256", **key, **names).client_credentials(
        f"https://{story['domain']}/api/v2/"
    )
    assert token["token_type"] == "Bearer" and token["expires_in"] > 0
    return ManagementClient(domain=story["domain"], token=token["access_token"])


def shown(key):
    names = (*PLACES, "revoked")
    return {
        "kid": key.kid,
        "pem": key.cert.startswith("-----BEGIN CERTIFICATE-----\r\n"),
        "is": [name for name in names if getattr(key, name, None)],
    }


def take(keys, step, places):
    verb, *kid = step
    kid = [places.get(name[1:], name) if name.startswith("$") else name for name in kid]
    if verb == "list":
        listed = keys.list()
        places.update({place: key.kid for place in PLACES for key in listed if getattr(key, place)})
        return [shown(key) for key in listed]
    if verb == "get":
        return shown(keys.get(kid=kid[0]))
    answer = keys.rotate() if verb == "rotate" else keys.revoke(kid=kid[0])
    return {"kid": answer.kid, "pem": answer.cert.startswith("-----BEGIN CERTIFICATE-----\r\n")}


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        story = json.load(file)
    keys = client(story).keys.signing
    places, results = {}, []
    for step in story["steps"]:
        try:
            results.append({"ok": take(keys, step, places)})
        except ApiError as error:
            body = error.body if isinstance(error.body, dict) else error.body.dict()
            code = body.get("errorCode") or body.get("error_code")
            message = body.get("message")
            results.append({"status": error.status_code, "code": code, "message": message})
        except httpx.HTTPStatusError as error:
            code = error.response.json().get("error")
            status = error.response.status_code
            results.append({"status": status, "code": code, "message": "at /oauth/token"})
    print(json.dumps(results))


main()
