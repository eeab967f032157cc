// Signs in with an official TypeScript client, calls fleet_whoami, and prints the answer as JSON.
// Usage: node sign_in.mjs PACKAGES ERA URL WAY REDIRECT; WAY is dcr or the URL of a client metadata document.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [packages, era, url, way, redirect] = process.argv.slice(2);
const require = createRequire(`${packages}/package.json`);
const load = (name) => import(pathToFileURL(require.resolve(name)));

const modern = era === 'modern';
const name = (path) => (modern ? '@modelcontextprotocol/client' : `@modelcontextprotocol/sdk/client/${path}`);
const { Client } = await load(name('index.js'));
const { StreamableHTTPClientTransport } = await load(name('streamableHttp.js'));

const kept = {};
let landed;
const provider = {
  redirectUrl: redirect,
  ...(way === 'dcr' ? {} : { clientMetadataUrl: way }),
  clientMetadata: {
    client_name: 'A TypeScript client',
    redirect_uris: [redirect],
    application_type: redirect.startsWith('https:') ? 'web' : 'native',
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    token_endpoint_auth_method: 'none',
  },
  clientInformation: () => kept.client,
  saveClientInformation: (client) => void (kept.client = client),
  tokens: () => kept.tokens,
  saveTokens: (tokens) => void (kept.tokens = tokens),
  codeVerifier: () => kept.verifier,
  saveCodeVerifier: (verifier) => void (kept.verifier = verifier),
  redirectToAuthorization: async (start) => void (landed = await browse(start)),
};

async function browse(start) {
  const cookies = new Map();
  let at = String(start);
  while (!at.startsWith(redirect)) {
    const cookie = [...cookies].map(([key, value]) => `${key}=${value}`).join('; ');
    const response = await fetch(at, { redirect: 'manual', headers: { cookie } });
    for (const line of response.headers.getSetCookie()) {
      const [, key, value] = /^([^=]+)=([^;]*)/.exec(line);
      cookies.set(key, value);
    }
    at = new URL(response.headers.get('location'), at).href;
  }
  return new URL(at);
}

const transport = () => new StreamableHTTPClientTransport(new URL(url), { authProvider: provider });
const client = () =>
  new Client({ name: 'test', version: '1' }, modern ? { versionNegotiation: { mode: { pin: '2026-07-28' } } } : {});
const first = transport();
try {
  await client().connect(first);
  throw new Error('let in without signing in');
} catch (thrown) {
  if (!landed) throw thrown;
}
await first.finishAuth(modern ? landed.searchParams : landed.searchParams.get('code'));
const session = client();
await session.connect(transport());
const { structuredContent } = await session.callTool({ name: 'fleet_whoami', arguments: {} });
console.log(JSON.stringify({ who: structuredContent, clientId: kept.client?.client_id ?? way }));
await session.close();
