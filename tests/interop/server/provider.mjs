/*
 * The real authorization server of the interop tests: oidc-provider over TLS, in its FAPI 2.0 profile or, with
 * "fapi": false, as a plain server that also takes client secrets and RS256.
 *
 *   node provider.mjs CONFIG.json
 *
 * Three listeners on 127.0.0.1, called localhost or as "names" say, for a server that poses as another:
 *   issuer   the authorization server without client certificates, and what the issuer identifier names
 *   mtls     the same server, asking for a client certificate (mtls_endpoint_aliases)
 *   api      a resource that takes a token only with what it is bound to: the certificate, or the key of a DPoP proof
 *
 * It says where they are in one JSON line on standard output, answers each JSON line on standard input
 * ({"do": NAME, ...}) with one of its own, and ends when standard input does: it cannot outlive its test.
 * Everything that is said for people goes to standard error.
 */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import https from 'node:https';
import readline from 'node:readline';

import { makeDirectory } from './directory.mjs';

// The provider writes notices with console.info, and standard output is for answers alone.
console.info = console.log = console.error;

const { default: Provider } = await import('oidc-provider');
const { EmbeddedJWK, calculateJwkThumbprint, createLocalJWKSet, jwtVerify } = await import('jose');

const HOST = '127.0.0.1';
const config = JSON.parse(readFileSync(process.argv[2], 'utf8'));
let { lifetime } = config; // seconds that an access token lives
let tokenRequests = [];
const refreshTokens = []; // all that were issued, and whose they are
const calls = []; // what came to the other endpoints that clients authenticate at

const tls = { cert: readFileSync(config.server.cert), key: readFileSync(config.server.key) };
const asking = { ...tls, ca: config.ca.map((file) => readFileSync(file)), requestCert: true };

async function listen(options, port) {
  const server = https.createServer(options);
  server.listen(port, HOST);
  await once(server, 'listening');
  return server;
}

const urlOf = (server, name) => config.names[name] ?? `https://localhost:${server.address().port}`;

// Without strict, a certificate that is not in order passes TLS and then counts as none.
function certificateOf(socket) {
  return socket.authorized ? socket.getPeerX509Certificate() : undefined;
}

const thumbprintOf = (certificate) => certificate && createHash('sha256').update(certificate.raw).digest('base64url');

// Node gives the subject in the order of the certificate, one attribute a line; RFC 4514 wants it backwards.
const subjectOf = (certificate) => certificate.subject.split('\n').reverse().join(',');

// Which parts of the request said who the client is, and how its assertion is signed.
const CREDENTIALS = ['client_id', 'client_secret', 'client_assertion'];
const presentedIn = (ctx) => [
  ...(ctx.headers.authorization ? ['authorization'] : []),
  ...CREDENTIALS.filter((name) => ctx.oidc?.params?.[name] !== undefined),
];
const assertionAlgOf = (ctx) => {
  const assertion = ctx.oidc?.params?.client_assertion;
  return assertion ? JSON.parse(Buffer.from(assertion.split('.')[0], 'base64url')).alg : null;
};

// What a DPoP proof says, whether it is in order or not.
function proofOf(request) {
  const parts = request.headers.dpop?.split('.').slice(0, 2);
  if (parts === undefined) return null;
  try {
    const [{ jwk, ...header }, claims] = parts.map((part) => JSON.parse(Buffer.from(part, 'base64url')));
    return { ...header, ...claims };
  } catch {
    return {};
  }
}

const METHODS = ['private_key_jwt', 'tls_client_auth', 'self_signed_tls_client_auth'];
const ALGS = ['PS256', 'ES256', 'EdDSA', 'Ed25519'];
const ALG = config.signing_key.alg; // with which the server itself signs

function makeProvider(issuer, mtls) {
  const alias = (path) => `${mtls}${path}`;
  const provider = new Provider(issuer, {
    clients: config.clients,
    jwks: { keys: [config.signing_key] },
    clientAuthMethods: config.fapi ? METHODS : [...METHODS, 'client_secret_basic', 'client_secret_post'],
    clientDefaults: { id_token_signed_response_alg: ALG, authorization_signed_response_alg: ALG },
    cookies: { keys: [config.cookie_key] },
    enabledJWA: { clientAuthSigningAlgValues: config.fapi ? ALGS : [...ALGS, 'RS256'], dPoPSigningAlgValues: ALGS },
    discovery: {
      mtls_endpoint_aliases: Object.fromEntries(Object.entries(config.aliases).map(([name, path]) => [name, alias(path)])),
    },
    scopes: config.scope.split(' '),
    responseTypes: ['code'],
    // With people: who is trusted with refresh tokens gets one, and a new one at each use, unless it may keep the first.
    issueRefreshToken: (_ctx, client) => Boolean(config.people) && client.grantTypeAllowed('refresh_token'),
    rotateRefreshToken: (ctx) => !config.keeping.includes(ctx.oidc.client.clientId),
    ttl: { ClientCredentials: () => lifetime, AccessToken: () => lifetime },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: Boolean(config.people) },
      requestObjects: { enabled: true },
      jwtResponseModes: { enabled: true },
      revocation: { enabled: true },
      ...(config.fapi ? { fapi: { enabled: true, profile: '2.0' } } : {}),
      // With dpop_nonces every proof needs one, and each answer to an older one hands out the next.
      dPoP: {
        enabled: true,
        nonceSecret: config.dpop_nonces ? Buffer.from(config.dpop_nonces, 'base64url') : undefined,
        requireNonce: () => Boolean(config.dpop_nonces),
      },
      mTLS: {
        enabled: true,
        certificateBoundAccessTokens: true,
        tlsClientAuth: true,
        selfSignedTlsClientAuth: true,
        getCertificate: (ctx) => certificateOf(ctx.req.socket),
        certificateAuthorized: (ctx) => ctx.req.socket.authorized,
        certificateSubjectMatches: (ctx, property, expected) => (
          property === 'tls_client_auth_subject_dn' && subjectOf(certificateOf(ctx.req.socket)) === expected
        ),
      },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => config.resource,
        useGrantedResource: () => true,
        getResourceServerInfo: (_ctx, resource) => ({
          audience: resource,
          scope: config.scope,
          ...(resource === config.opaque_resource
            ? { accessTokenFormat: 'opaque' }
            : { accessTokenFormat: 'jwt', jwt: { sign: { alg: ALG } } }),
        }),
      },
    },
  });
  provider.on('refresh_token.saved', ({ jti, clientId }) => refreshTokens.push({ value: jti, clientId }));
  provider.on('server_error', (_ctx, error) => console.error(error));
  provider.use(async (ctx, next) => {
    await next();
    if (ctx.path === '/request' || ctx.path === '/token/revocation') {
      calls.push({
        path: ctx.path,
        status: ctx.status,
        error: ctx.body?.error ?? null,
        client_id: ctx.oidc?.client?.clientId ?? null,
        signed: ctx.oidc?.body?.request !== undefined,
        mtls: ctx.req.socket.server === mtlsServer,
      });
    }
    if (ctx.path === '/token') {
      tokenRequests.push({
        grant_type: ctx.oidc?.params?.grant_type ?? null,
        client_id: ctx.oidc?.client?.clientId ?? null,
        status: ctx.status,
        error: ctx.body?.error ?? null,
        error_description: ctx.body?.error_description ?? null,
        auth_method: ctx.oidc?.client?.clientAuthMethod ?? null,
        assertion_alg: assertionAlgOf(ctx),
        presented: presentedIn(ctx),
        mtls: ctx.req.socket.server === mtlsServer,
        thumbprint: thumbprintOf(certificateOf(ctx.req.socket)) ?? null,
        proof: proofOf(ctx.req),
      });
    }
  });
  return provider;
}

// RFC 9449 section 4.3. Gives the thumbprint of the key, throws what is wrong. A jti is good for once.
const seenProofs = new Set();
async function checkProof(request, token, nonces) {
  const { payload, protectedHeader } = await jwtVerify(
    request.headers.dpop ?? '', EmbeddedJWK, { typ: 'dpop+jwt', algorithms: ALGS, maxTokenAge: 60 },
  );
  const { pathname } = new URL(request.url, 'https://localhost');
  if (payload.htm !== request.method || payload.htu !== `${urlOf(apiServer, 'api')}${pathname}`) throw new Error('htm or htu');
  if (payload.ath !== createHash('sha256').update(token).digest('base64url')) throw new Error('ath');
  if (config.dpop_nonces ? !nonces.includes(payload.nonce) : payload.nonce !== undefined) throw new Error('nonce');
  if (typeof payload.jti !== 'string' || seenProofs.has(payload.jti)) throw new Error('jti');
  seenProofs.add(payload.jti);
  return calculateJwkThumbprint(protectedHeader.jwk);
}

// What came to the API, with or without success, and the tokens that it takes no more.
let apiCalls = [];
const seenTokens = new Map(); // to whose they are
const revokedTokens = new Set();

// Give length and digest of the body of a request: enough to know that it came whole.
async function digestOf(request) {
  const digest = createHash('sha256');
  let bytes = 0;
  for await (const piece of request) {
    digest.update(piece);
    bytes += piece.length;
  }
  return { bytes, sha256: digest.digest('hex') };
}

// RFC 8705 section 3: the token is good only over the certificate that it names. RFC 9449 section 7: or with a proof.
// Nonces rotate with each answer, and the one before is good for once more.
const directory = config.directory && makeDirectory();
function makeApi(issuer, keys) {
  const fresh = () => randomBytes(16).toString('base64url');
  let nonces = [fresh(), fresh()];
  const answer = (response, status, body, headers = {}) => {
    nonces = [nonces[1], fresh()];
    const given = config.dpop_nonces ? { 'dpop-nonce': nonces[1] } : {};
    const { req: request } = response;
    apiCalls.push({
      method: request.method,
      path: request.url,
      status,
      error: body.error ?? null,
      scheme: (request.headers.authorization ?? '').split(' ')[0],
      thumbprint: thumbprintOf(certificateOf(request.socket)) ?? null,
      proof: proofOf(request),
    });
    response.writeHead(status, { ...headers, ...given, 'content-type': 'application/json' });
    response.end(JSON.stringify(body));
  };
  const refuse = (response, why, scheme = 'Bearer', error = 'invalid_token') => answer(
    response, 401, { error, why }, { 'www-authenticate': `Basic realm="a, b", ${scheme} error="${error}", algs="ES256 PS256"` },
  );
  return async (request, response) => {
    const [scheme, token] = (request.headers.authorization ?? '').split(' ');
    if (!['Bearer', 'DPoP'].includes(scheme) || !token) return refuse(response, 'no token');
    const thumbprint = thumbprintOf(certificateOf(request.socket));
    let jkt;
    if (scheme === 'DPoP') {
      try {
        jkt = await checkProof(request, token, nonces);
      } catch (error) {
        return refuse(response, error.message, 'dPoP', error.message === 'nonce' ? 'use_dpop_nonce' : 'invalid_dpop_proof');
      }
    } else if (thumbprint === undefined) return refuse(response, 'no certificate that is in order');
    let claims;
    try {
      const expected = { issuer, audience: config.resource, typ: 'at+jwt', algorithms: [ALG] };
      ({ payload: claims } = await jwtVerify(token, keys, expected));
    } catch (error) {
      return refuse(response, error.code);
    }
    if (claims.cnf?.jkt !== jkt) return refuse(response, 'bound to another key', scheme);
    if (claims.cnf?.['x5t#S256'] !== (jkt ? undefined : thumbprint)) return refuse(response, 'bound to another certificate');
    seenTokens.set(token, claims.client_id);
    if (revokedTokens.has(token)) return refuse(response, 'revoked', scheme);
    const body = await digestOf(request);
    if (directory) {
      const { status, said, headers } = directory.answer(request, claims);
      return answer(response, status, said, headers);
    }
    return answer(response, 200, { client_id: claims.client_id, sub: claims.sub, scope: claims.scope, thumbprint, jkt, body });
  };
}

// Standard input: one command a line, one answer a line.
const commands = {
  token_requests: () => ({ token_requests: tokenRequests }),
  calls: () => ({ calls }),
  api_calls: () => ({ api_calls: apiCalls }),
  forget: () => { tokenRequests = []; apiCalls = []; return {}; },
  revoke: ({ client_id: client }) => {
    for (const [token, owner] of seenTokens) if (owner === client) revokedTokens.add(token);
    return {};
  },
  lifetime: ({ seconds }) => { lifetime = seconds; return {}; },
  refresh_tokens: ({ client_id: client }) => (
    { refresh_tokens: refreshTokens.filter(({ clientId }) => clientId === client).map(({ value }) => value) }
  ),
  throttle: ({ times, retry_after: retryAfter }) => { directory.throttle(times, retryAfter); return {}; },
};

const say = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);

const issuerServer = await listen(tls, config.ports.issuer);
const mtlsServer = await listen({ ...asking, rejectUnauthorized: config.strict }, config.ports.mtls);
const apiServer = await listen({ ...asking, rejectUnauthorized: false }, config.ports.api);
const provider = makeProvider(urlOf(issuerServer, 'issuer'), urlOf(mtlsServer, 'mtls'));
const { kty, kid, n, e, crv, x, y } = config.signing_key;
const publicKey = { kty, kid, n, e, crv, x, y, alg: ALG, use: 'sig' };

for (const server of [issuerServer, mtlsServer]) server.on('request', provider.callback());
apiServer.on('request', makeApi(provider.issuer, createLocalJWKSet({ keys: [publicKey] })));

say({
  ports: { issuer: issuerServer.address().port, mtls: mtlsServer.address().port, api: apiServer.address().port },
});

for await (const line of readline.createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  say(commands[command.do]?.(command) ?? { error: `there is no command ${command.do}` });
}
process.exit(0);
