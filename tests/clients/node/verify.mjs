// Verifies tokens with `jose`, unmodified, against a JWKS read over HTTP.
//
// Usage: node verify.mjs CASES.json
// CASES.json: [{"name", "jwks_uri", "algorithm", "issuer", "jwt"}]. A null issuer is not checked.
// Prints [{"name", "verified", "error"}] in the same order; the caller knows what it expects.

import { readFile } from "node:fs/promises";
import { createRemoteJWKSet, jwtVerify } from "jose";

const cases = JSON.parse(await readFile(process.argv[2], "utf8"));
const jwks = new Map();
const results = [];
for (const { name, jwks_uri, algorithm, issuer, jwt } of cases) {
  if (!jwks.has(jwks_uri)) jwks.set(jwks_uri, createRemoteJWKSet(new URL(jwks_uri)));
  try {
    const options = { algorithms: [algorithm], ...(issuer === null ? {} : { issuer }) };
    await jwtVerify(jwt, jwks.get(jwks_uri), options);
    results.push({ name, verified: true, error: null });
  } catch (error) {
    results.push({ name, verified: false, error: error.code ?? String(error) });
  }
}
console.log(JSON.stringify(results));
