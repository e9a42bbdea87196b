// Verifies tokens with the libraries that Auth0 has for Node, unmodified: jwks-rsa (beneath jose's
// verification) and express-oauth2-jwt-bearer, which finds the JWKS through discovery.
//
// Usage: node auth0_verify.mjs jwks-rsa|express CASES.json
// Takes and prints what verify.mjs does; the tokens are for the audience "app".

import { readFile } from "node:fs/promises";
import { createPublicKey } from "node:crypto";
import express from "express";
import { auth } from "express-oauth2-jwt-bearer";
import { decodeProtectedHeader, jwtVerify } from "jose";
import jwksClient from "jwks-rsa";

const [, , library, file] = process.argv;
const cases = JSON.parse(await readFile(file, "utf8"));

async function withJwksRsa({ jwks_uri, issuer, algorithm, jwt }) {
  const client = jwksClient({ jwksUri: jwks_uri, timeout: 10_000 });
  const { kid } = decodeProtectedHeader(jwt);
  const key = await client.getSigningKey(kid);
  const publicKey = createPublicKey(key.getPublicKey());
  await jwtVerify(jwt, publicKey, { algorithms: [algorithm], issuer, audience: "app" });
}

async function withExpress({ issuer, algorithm, jwt }) {
  const app = express();
  app.use(auth({ issuerBaseURL: issuer, audience: "app", tokenSigningAlg: algorithm }));
  app.get("/", (request, response) => response.json(request.auth.payload));
  app.use((error, request, response, next) => {
    response.status(error.status ?? 500).json({ error: `${error.code}: ${error.message}` });
  });
  const server = app.listen(0, "127.0.0.1");
  await new Promise((listening) => server.once("listening", listening));
  try {
    const url = `http://127.0.0.1:${server.address().port}/`;
    const answer = await fetch(url, { headers: { authorization: `Bearer ${jwt}` } });
    const body = await answer.json();
    if (answer.status !== 200) throw new Error(`${answer.status} ${body.error}`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

const verify = { "jwks-rsa": withJwksRsa, express: withExpress }[library];
const results = [];
for (const one of cases) {
  try {
    await verify(one);
    results.push({ name: one.name, verified: true, error: null });
  } catch (error) {
    results.push({ name: one.name, verified: false, error: String(error) });
  }
}
console.log(JSON.stringify(results));
