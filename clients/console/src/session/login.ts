/**
 * Logging in: OAuth 2.0 authorization code with PKCE at the issuer that the service names (RFC 9728, RFC 7636).
 * What must outlive the redirect is in sessionStorage until the browser is back; no token is ever stored.
 */
import * as oauth from "oauth4webapi";

/** What the service says of itself at /.well-known/oauth-protected-resource, as far as a browser needs it. */
interface Metadata {
  readonly authorization_servers?: readonly string[];
  readonly jit_console_client_id?: string;
  readonly jit_scopes?: readonly string[];
  readonly jit_audience?: string;
}

/** What came of a log-in. Instants are milliseconds since 1970. */
export interface Tokens {
  readonly bearer: string;
  readonly refresh: string | undefined;
  /** The ID token of the log-in, by which the provider knows whose session ends. */
  readonly identity: string | undefined;
  readonly expiresAt: number;
}

/** The provider refused to log in without asking anybody, so its user must be asked. */
export class MustAsk extends Error {}

export class LoginFault extends Error {}

interface Pending {
  readonly verifier: string;
  readonly state: string;
  readonly nonce: string;
  readonly back: string;
}

const PENDING = "jit-console-login";
const CALLBACK = "/console/callback";
/** Where the provider sends the browser once its session has ended. */
const LOGGED_OUT = "/console/";
/** The service or a provider that does not answer is given up after so many milliseconds, and at a log-out sooner. */
const PATIENCE = 10_000;
const LITTLE_PATIENCE = 3_000;
const NEEDS_ASKING = new Set(["login_required", "interaction_required", "consent_required", "account_selection_required"]);
/** A token whose life nobody tells is asked for anew after so long. */
const UNKNOWN_LIFE = 300_000;

export class Provider {
  private constructor(
    readonly name: string,
    private readonly metadata: Metadata,
    private readonly server: oauth.AuthorizationServer,
  ) {}

  /** Asks the service where its people log in, and that provider where its endpoints are. */
  static async find(): Promise<Provider> {
    const metadata = await metadataOfService();
    const issuer = metadata.authorization_servers?.[0];
    if (issuer === undefined || !metadata.jit_console_client_id) {
      throw new LoginFault("This service does not say where people log in. Its operator sets console_client_id at the issuer.");
    }
    const url = new URL(issuer);
    const found = await oauth.discoveryRequest(url, asked(url)).catch(() => undefined);
    if (found === undefined) {
      throw new LoginFault(`${url.host}, where you log in, cannot be reached. Whoever is logged in stays so until then.`);
    }
    return new Provider(url.host, metadata, await oauth.processDiscoveryResponse(url, found));
  }

  /** Leaves for the provider's page. `more` goes along: with `prompt` `none` it must ask nobody, and logs in or says no. */
  async leave(back: string, more: Readonly<Record<string, string>>): Promise<never> {
    const pending: Pending = {
      verifier: oauth.generateRandomCodeVerifier(),
      state: oauth.generateRandomState(),
      nonce: oauth.generateRandomNonce(),
      back,
    };
    sessionStorage.setItem(PENDING, JSON.stringify(pending));
    const address = new URL(this.endpoint("authorization_endpoint"));
    const query = {
      client_id: this.client.client_id,
      response_type: "code",
      redirect_uri: location.origin + CALLBACK,
      scope: this.scope,
      state: pending.state,
      nonce: pending.nonce,
      code_challenge: await oauth.calculatePKCECodeChallenge(pending.verifier),
      code_challenge_method: "S256",
      ...this.audience,
      ...more,
    };
    Object.entries(query).forEach(([name, value]) => address.searchParams.set(name, value));
    location.assign(address);
    return new Promise<never>(() => undefined);
  }

  /** Takes the code that the provider sent back. Returns the tokens, and the path from which the browser had left. */
  async arrive(): Promise<{ tokens: Tokens; back: string }> {
    const pending = takePending();
    if (pending === undefined) {
      throw new LoginFault("This log-in was not begun in this window, or is over. Log in once more.");
    }
    const address = new URL(location.href);
    const told = address.searchParams.get("error");
    if (told !== null && NEEDS_ASKING.has(told) && address.searchParams.get("state") === pending.state) {
      throw Object.assign(new MustAsk(), { back: pending.back });
    }
    const parameters = oauth.validateAuthResponse(this.server, this.client, address, pending.state);
    const answer = await oauth.authorizationCodeGrantRequest(
      this.server,
      this.client,
      oauth.None(),
      parameters,
      location.origin + CALLBACK,
      pending.verifier,
      { ...asked(new URL(this.server.issuer)), additionalParameters: this.audience },
    );
    const expectedNonce = this.isOpenId ? { expectedNonce: pending.nonce } : {};
    const given = await oauth.processAuthorizationCodeResponse(this.server, this.client, answer, expectedNonce);
    return { tokens: tokensOf(given), back: pending.back };
  }

  /** Renews the tokens by the refresh token, which may be another one from then on. */
  async renew(before: Tokens & { readonly refresh: string }): Promise<Tokens> {
    const options = { ...asked(new URL(this.server.issuer)), additionalParameters: this.audience };
    const answer = await oauth.refreshTokenGrantRequest(this.server, this.client, oauth.None(), before.refresh, options);
    return tokensOf(await oauth.processRefreshTokenResponse(this.server, this.client, answer), before);
  }

  /** Tells the provider that the refresh token is not needed any more. Returns whether the provider is there. */
  async revoke(refresh: string): Promise<boolean> {
    if (this.server.revocation_endpoint === undefined) {
      return true;
    }
    const options = asked(new URL(this.server.issuer), LITTLE_PATIENCE);
    return oauth.revocationRequest(this.server, this.client, oauth.None(), refresh, options).then(() => true, () => this.isThere());
  }

  /** A provider that lets no page revoke tokens (CORS) looks as if it were away; its discovery document tells the two apart. */
  private async isThere(): Promise<boolean> {
    const issuer = new URL(this.server.issuer);
    const options = asked(issuer, LITTLE_PATIENCE);
    return oauth.discoveryRequest(issuer, options).then((answer) => answer.ok, () => false);
  }

  /** Leaves for where the provider ends its own session too (OpenID Connect RP-Initiated Logout 1.0). Returns whether it can. */
  end(identity: string): boolean {
    const endpoint = this.server.end_session_endpoint;
    if (endpoint === undefined) {
      return false;
    }
    const address = new URL(endpoint);
    const query = { id_token_hint: identity, client_id: this.client.client_id, post_logout_redirect_uri: location.origin + LOGGED_OUT };
    Object.entries(query).forEach(([name, value]) => address.searchParams.set(name, value));
    location.assign(address);
    return true;
  }

  private get client(): oauth.Client {
    return { client_id: this.metadata.jit_console_client_id ?? "" };
  }

  private get scope(): string {
    return (this.metadata.jit_scopes ?? ["openid"]).join(" ");
  }

  private get isOpenId(): boolean {
    return (this.metadata.jit_scopes ?? ["openid"]).includes("openid");
  }

  /** For whom the token shall be: as RFC 8707 says it where it is a URI, and as providers before it do. */
  private get audience(): Record<string, string> {
    const audience = this.metadata.jit_audience;
    if (!audience) {
      return {};
    }
    return URL.canParse(audience) ? { resource: audience, audience } : { audience };
  }

  private endpoint(name: "authorization_endpoint"): string {
    const address = this.server[name];
    if (address === undefined) {
      throw new LoginFault(`${this.name} has no ${name}`);
    }
    return address;
  }
}

/** Where the log-in is over, the address bar shows the page again, and never the code. */
export function isCallback(): boolean {
  return location.pathname === CALLBACK;
}

function takePending(): Pending | undefined {
  const text = sessionStorage.getItem(PENDING);
  sessionStorage.removeItem(PENDING);
  return text === null ? undefined : (JSON.parse(text) as Pending);
}

/** The access token where the service can read it, which is a JWT; else the id token, as some providers only sign that. */
function tokensOf(given: oauth.TokenEndpointResponse, before?: Tokens): Tokens {
  const isReadable = given.access_token.split(".").length === 3;
  const bearer = isReadable ? given.access_token : (given.id_token ?? given.access_token);
  const life = given.expires_in === undefined ? UNKNOWN_LIFE : given.expires_in * 1000;
  return { bearer, refresh: given.refresh_token ?? before?.refresh, identity: given.id_token ?? before?.identity, expiresAt: Date.now() + life };
}

async function metadataOfService(): Promise<Metadata> {
  const signal = AbortSignal.timeout(PATIENCE);
  const answer = await fetch("/.well-known/oauth-protected-resource", { headers: { accept: "application/json" }, signal }).catch(() => undefined);
  if (answer === undefined) {
    throw new LoginFault("This service does not answer. Try again in a moment.");
  }
  return (answer.ok ? await answer.json() : {}) as Metadata;
}

/** How a provider is asked. One without TLS is for trying out on this machine only. */
function asked(url: URL, patience = PATIENCE): { [oauth.allowInsecureRequests]?: boolean; signal: () => AbortSignal } {
  const isLocal = ["localhost", "127.0.0.1", "[::1]"].includes(url.hostname);
  const signal = () => AbortSignal.timeout(patience);
  return url.protocol === "http:" && isLocal ? { [oauth.allowInsecureRequests]: true, signal } : { signal };
}
