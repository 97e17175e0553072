/** Who is logged in. Tokens are in this module's memory only, so a reload asks the provider again, silently. */
import { isCallback, LoginFault, MustAsk, Provider, type Tokens } from "./login";

export type Phase =
  | { readonly is: "starting" }
  | { readonly is: "out"; readonly at: string; readonly fault: string }
  | { readonly is: "in" }
  | { readonly is: "over"; readonly at: string };

/** Not a token: only that this window was logged in, so that a reload may try without asking. */
const WAS_IN = "jit-console-was-in";
/** Renewed so long before the end, in milliseconds. */
const EARLY = 30_000;

let provider: Provider | undefined;
let tokens: Tokens | undefined;
let renewal: Promise<Tokens> | undefined;
let timer = 0;
let phase: Phase = { is: "starting" };
const listeners = new Set<() => void>();

export function current(): Phase {
  return phase;
}

export function onChange(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Begins: takes the provider's answer if the browser comes from there, else logs in silently where it was in before. */
export async function start(): Promise<void> {
  try {
    provider = await Provider.find();
    if (isCallback()) {
      await arrive(provider);
    } else if (sessionStorage.getItem(WAS_IN) !== null) {
      await provider.leave(here(), { prompt: "none" });
    } else {
      become({ is: "out", at: provider.name, fault: "" });
    }
  } catch (fault) {
    become({ is: "out", at: provider?.name ?? "", fault: words(fault) });
  }
}

/**
 * Leaves for the provider's page, and comes back to the page that is shown now. `stepUp` is what the provider shall see to,
 * such as `max_age`.
 */
export async function logIn(stepUp: Readonly<Record<string, string>> = {}): Promise<void> {
  try {
    provider ??= await Provider.find();
    await provider.leave(here(), stepUp);
  } catch (fault) {
    become({ is: "out", at: provider?.name ?? "", fault: words(fault) });
  }
}

export async function logOut(): Promise<void> {
  const { refresh, identity } = tokens ?? {};
  forget();
  sessionStorage.removeItem(WAS_IN);
  become({ is: "out", at: provider?.name ?? "", fault: "" });
  const isThere = refresh === undefined || (await provider?.revoke(refresh));
  // Whoever sits down here next would else be logged in by one press of a button.
  const isLeaving = isThere && identity !== undefined && provider?.end(identity);
  if (provider !== undefined && !isLeaving) {
    const fault = isThere ? `your session at ${provider.name} goes on` : `${provider.name} could not be reached`;
    become({ is: "out", at: provider.name, fault: `You are logged out here, but ${fault}: log out there too.` });
  }
}

/** Returns a token for a call. Raises SessionOver where there is none that lives and none can be had silently. */
export async function bearer(): Promise<string> {
  if (tokens === undefined) {
    throw new SessionOver();
  }
  if (tokens.expiresAt - Date.now() > EARLY) {
    return tokens.bearer;
  }
  try {
    return (await renewed()).bearer;
  } catch {
    if (tokens.expiresAt > Date.now()) {
      return tokens.bearer;
    }
    end();
    throw new SessionOver();
  }
}

/** The service refused the token. Returns whether there is another one by now. */
export async function replace(): Promise<boolean> {
  try {
    await renewed();
    return true;
  } catch {
    end();
    return false;
  }
}

export class SessionOver extends Error {
  constructor() {
    super("Your session is over.");
  }
}

function end(): void {
  forget();
  if (phase.is !== "in") {
    return;
  }
  become({ is: "over", at: provider?.name ?? "" });
}

function forget(): void {
  tokens = undefined;
  window.clearTimeout(timer);
}

async function arrive(from: Provider): Promise<void> {
  try {
    const arrived = await from.arrive();
    history.replaceState(null, "", arrived.back);
    keep(arrived.tokens);
    sessionStorage.setItem(WAS_IN, "1");
    become({ is: "in" });
  } catch (fault) {
    history.replaceState(null, "", (fault as { back?: string }).back ?? "/console");
    if (!(fault instanceof MustAsk)) {
      throw fault;
    }
    sessionStorage.removeItem(WAS_IN);
    become({ is: "out", at: from.name, fault: "" });
  }
}

async function renewed(): Promise<Tokens> {
  const refresh = tokens?.refresh;
  if (provider === undefined || tokens === undefined || refresh === undefined) {
    throw new SessionOver();
  }
  renewal ??= provider.renew({ ...tokens, refresh }).finally(() => {
    renewal = undefined;
  });
  const given = await renewal;
  keep(given);
  return given;
}

/** Keeps the tokens, and sees to it that the session goes on or that its user learns of its end in time. */
function keep(given: Tokens): void {
  tokens = given;
  window.clearTimeout(timer);
  const left = given.expiresAt - Date.now();
  const wait = given.refresh === undefined ? left : Math.max(left - EARLY, 1000);
  // A longer wait than this is none at all.
  timer = window.setTimeout(() => void bearer().catch(() => undefined), Math.min(wait, 2 ** 31 - 1));
}

function become(next: Phase): void {
  phase = next;
  listeners.forEach((listener) => listener());
}

function here(): string {
  return isCallback() ? "/console" : location.pathname + location.search;
}

function words(fault: unknown): string {
  if (fault instanceof LoginFault) {
    return fault.message;
  }
  return `The log-in failed: ${fault instanceof Error ? fault.message : String(fault)}`;
}
