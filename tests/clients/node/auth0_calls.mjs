// Calls the Management API with auth0 from npm, unmodified.
//
// Usage: node auth0_calls.mjs STORY.json
// Takes and prints what auth0_calls.py does.

import { readFile } from "node:fs/promises";
import { ManagementClient } from "auth0";

const PLACES = ["next", "current", "previous"];
const story = JSON.parse(await readFile(process.argv[2], "utf8"));
const credentials =
  "client_secret" in story
    ? { clientSecret: story.client_secret }
    : { clientAssertionSigningKey: story.private_key, clientAssertionSigningAlg: "ES256" };
const client = new ManagementClient({
  domain: story.domain,
  clientId: story.client_id,
  ...credentials,
});
const keys = client.keys.signing;
const places = {};

const isPem = (text) => text.startsWith("-----BEGIN CERTIFICATE-----\r\n");
const shown = (key) => ({
  kid: key.kid,
  pem: isPem(key.cert),
  is: [...PLACES, "revoked"].filter((name) => key[name]),
});

async function take([verb, name]) {
  const kid = name?.startsWith("$") ? places[name.slice(1)] : name;
  if (verb === "list") {
    const listed = await keys.list();
    for (const key of listed) for (const place of PLACES) if (key[place]) places[place] = key.kid;
    return listed.map(shown);
  }
  if (verb === "get") return shown(await keys.get(kid));
  const answer = verb === "rotate" ? await keys.rotate() : await keys.revoke(kid);
  return { kid: answer.kid, pem: isPem(answer.cert) };
}

const results = [];
for (const step of story.steps) {
  try {
    results.push({ ok: await take(step) });
  } catch (error) {
    const body = error.body ?? {};
    results.push({
      status: error.statusCode ?? null,
      code: body.errorCode ?? error.error ?? null,
      message: body.message ?? error.message,
    });
  }
}
// A request that failed leaves its timer behind, which would keep the process for a minute.
process.stdout.write(`${JSON.stringify(results)}\n`, () => process.exit(0));
