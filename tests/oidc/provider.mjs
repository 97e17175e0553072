// A certified OpenID provider for tests: `node provider.mjs` prints its issuer as a line of JSON, and runs until its
// standard input ends. POST /test/clock {"seconds": N} sets its clock ahead, POST /test/away {"away": true} has it answer
// 503 to everything else, or with "silent" nothing at all, POST /test/revocation {"lets": false} has it let no page of another origin revoke tokens,
// GET /test/forms lists the forms that its token endpoint got, POST /test/forget empties that list.
import { createServer } from "node:http";
import Provider from "oidc-provider";

const AUDIENCE = "https://jit.example.com";
const realNow = Date.now;
let ahead = 0;
let away = false;
let lets = true;
let forms = [];
Date.now = () => realNow() + ahead * 1000;

const client = {
  client_id: "jit-cli",
  application_type: "native",
  token_endpoint_auth_method: "none",
  redirect_uris: ["http://127.0.0.1/callback"],
  response_types: ["code"],
  grant_types: ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
};

// A native client could not log in again without being asked. POST /test/console {"url": U} says where this one is.
const inBrowser = {
  ...client,
  client_id: "jit-console",
  application_type: "web",
  redirect_uris: ["http://127.0.0.1/console/callback"],
  post_logout_redirect_uris: ["http://127.0.0.1/console/"],
  grant_types: ["authorization_code", "refresh_token"],
};

function configuration() {
  return {
    clientBasedCORS: (ctx, _, { clientId }) => clientId === inBrowser.client_id && (lets || !ctx.path.endsWith("/revocation")),
    clients: [client, inBrowser, { ...client, client_id: "no-refresh", grant_types: ["authorization_code"] }],
    cookies: { keys: ["a key of a test"] },
    features: {
      deviceFlow: { enabled: true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => AUDIENCE,
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({
          scope: "jit",
          audience: AUDIENCE,
          accessTokenFormat: "jwt",
          accessTokenTTL: 600,
          jwt: { sign: { alg: "RS256" } },
        }),
      },
    },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    issueRefreshToken: (_, to) => to.grantTypeAllowed("refresh_token"),
    scopes: ["openid", "offline_access", "jit"],
    ttl: { AuthorizationCode: 60, DeviceCode: 600, AccessToken: 600, IdToken: 600, RefreshToken: 86400 },
  };
}

async function bodyOf(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString();
}

async function moveConsole(url) {
  const at = await provider.Client.find(inBrowser.client_id);
  at.redirectUris = [`${url}/console/callback`];
  at.postLogoutRedirectUris = [`${url}/console/`];
}

let provider;
const control = {
  "/test/console": async (request) => void (await moveConsole(JSON.parse(await bodyOf(request)).url)),
  "/test/clock": async (request) => void (ahead = JSON.parse(await bodyOf(request)).seconds),
  "/test/away": async (request) => void (away = JSON.parse(await bodyOf(request)).away),
  "/test/revocation": async (request) => void (lets = JSON.parse(await bodyOf(request)).lets),
  "/test/forms": () => forms,
  "/test/forget": () => void (forms = []),
};

const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  provider = new Provider(issuer, configuration());
  provider.use(async (ctx, next) => {
    await next();
    if (ctx.path === "/token") forms.push({ ...ctx.oidc?.body, status: ctx.status });
  });
  const answer = provider.callback();
  server.on("request", async (request, response) => {
    if (request.url in control) {
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify((await control[request.url](request)) ?? null));
    } else if (away === "silent") {
      request.resume();
    } else if (away) {
      response.statusCode = 503;
      response.end();
    } else {
      answer(request, response);
    }
  });
  console.log(JSON.stringify({ issuer }));
});
process.stdin.on("end", () => process.exit(0)).resume();
