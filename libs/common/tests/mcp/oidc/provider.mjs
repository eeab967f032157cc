// An authorization server for tests: node provider.mjs PATH_OF_OIDC_PROVIDER
//
// Everybody signs in as ada of tenant acme with role sales, and consents to everything. It prints its URL.
// POST /test/rotate publishes one more signing key and signs with it from then on.
// Client metadata documents below https://client.example/ are answered here: nothing leaves this machine.
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';

const { default: Provider } = await import(process.argv[2]);

const SCOPES = [
  'data:read data:write data:send data:admin',
  'devops:read devops:write devops:deploy devops:admin',
  'aiml:read aiml:write aiml:admin',
].join(' ');
const DOCUMENTS = 'https://client.example/';
const keys = [];
let port = 0;
let callback;
let provider;

function clientDocument(url) {
  const isHosted = url.endsWith('/hosted.json');
  return {
    client_id: url,
    client_name: 'A client known by its URL',
    redirect_uris: [isHosted ? `${DOCUMENTS}callback` : 'http://127.0.0.1:8765/callback'],
    application_type: isHosted ? 'web' : 'native',
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    token_endpoint_auth_method: 'none',
  };
}

function machine(clientId) {
  return {
    client_id: clientId,
    client_secret: 'machine-secret',
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
    scope: SCOPES,
  };
}

function addKey() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const jwk = privateKey.export({ format: 'jwk' });
  keys.unshift({ ...jwk, kid: randomUUID(), use: 'sig', alg: 'RS256' });
}

function configuration() {
  return {
    jwks: { keys },
    cookies: { keys: ['test'] },
    scopes: ['openid', 'offline_access', ...SCOPES.split(' ')],
    clients: [machine('machine'), machine('opaque')],
    features: {
      devInteractions: { enabled: false },
      registration: { enabled: true },
      clientCredentials: { enabled: true },
      introspection: { enabled: true },
      revocation: { enabled: true },
      clientIdMetadataDocument: { enabled: true, ack: 'draft-02' },
      resourceIndicators: {
        enabled: true,
        useGrantedResource: () => true,
        getResourceServerInfo: (_ctx, resource, client) => ({
          scope: SCOPES,
          audience: resource,
          accessTokenTTL: 300,
          accessTokenFormat: client.clientId === 'opaque' ? 'opaque' : 'jwt',
          jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
    extraTokenClaims: () => ({ tenant: 'acme', roles: ['sales'] }),
    findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    fetch: async (url, options) =>
      String(url).startsWith(DOCUMENTS) ? Response.json(clientDocument(String(url))) : fetch(url, options),
  };
}

function start() {
  provider = new Provider(`http://127.0.0.1:${port}`, configuration());
  callback = provider.callback();
}

async function interact(req, res) {
  const { prompt, params, session } = await provider.interactionDetails(req, res);
  if (prompt.name === 'login') {
    await provider.interactionFinished(req, res, { login: { accountId: 'ada' } });
    return;
  }
  const grant = new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope((prompt.details.missingOIDCScope ?? []).join(' '));
  for (const [resource, scopes] of Object.entries(prompt.details.missingResourceScopes ?? {})) {
    grant.addResourceScope(resource, scopes.join(' '));
  }
  await provider.interactionFinished(req, res, { consent: { grantId: await grant.save() } });
}

const server = createServer(async (req, res) => {
  if (req.url === '/test/rotate') {
    addKey();
    start();
    res.end();
  } else if (req.url.startsWith('/interaction/')) {
    await interact(req, res);
  } else {
    callback(req, res);
  }
});
server.listen(0, '127.0.0.1', () => {
  port = server.address().port;
  addKey();
  start();
  console.log(`http://127.0.0.1:${port}`);
});
