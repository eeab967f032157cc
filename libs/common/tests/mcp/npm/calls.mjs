// Calls one tool again and again with an official client, and when it is refused waits as long as it is told.
// Prints one JSON line per call. Usage: node calls.mjs PACKAGES ERA URL KEY TOOL CALLS
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [packages, era, url, key, tool, calls] = process.argv.slice(2);
const require = createRequire(packages + "/package.json");
const load = (name) => import(pathToFileURL(require.resolve(name)));

const modern = era === "modern";
const { Client } = await load(modern ? "@modelcontextprotocol/client" : "@modelcontextprotocol/sdk/client/index.js");
const { StreamableHTTPClientTransport } = await load(
  modern ? "@modelcontextprotocol/client" : "@modelcontextprotocol/sdk/client/streamableHttp.js",
);

const client = new Client({ name: "test", version: "1" }, modern ? { versionNegotiation: { mode: { pin: "2026-07-28" } } } : {});
await client.connect(
  new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers: { authorization: `Bearer ${key}` } } }),
);
for (let call = 0; call < Number(calls); call++) {
  try {
    const result = await client.callTool({ name: tool, arguments: {} });
    console.log(JSON.stringify({ outcome: result.isError ? "error" : "ok" }));
  } catch (thrown) {
    // Both clients put the body of the answer into the message, after words of their own.
    const { error } = JSON.parse(thrown.message.slice(thrown.message.indexOf("{")));
    console.log(JSON.stringify({ outcome: "refused", status: thrown.status ?? thrown.code, error }));
    await new Promise((resolve) => setTimeout(resolve, error.data.retryAfterMs));
  }
}
await client.close();
