/** Changes of grants as they happen, by one WatchGrants stream a window; by asking again where there is no stream. */
import { Code, ConnectError } from "jitaccess";
import { ListGrantsRequest_View as View, WatchGrantsResponse_EventType as Type } from "contract/jitaccess/v1/grant_pb";

import { grants, isOver, isUnauthenticated } from "./api";
import { replace } from "./session/session";

export type Link = "live" | "asking" | "away";

/** How often lists are asked for again while there is no stream, in milliseconds. */
const ASK_EVERY = 15_000;
const FIRST_WAIT = 1_000;
/** Without a sign of life for so long, the stream is dead; the service gives one every 5 s. */
const DEAD_AFTER = 15_000;
const SILENT = new Set([Type.CURRENT, Type.HEARTBEAT, Type.OVERRUN, Type.GRANT_USED]);

const listeners = new Set<(grant: string) => void>();
const watchers = new Set<(link: Link) => void>();
let link: Link = "away";
let stop: AbortController | undefined;
let revision = 0n;
let history = "";

/** Calls the listener with the name of each grant that changes; with an empty one where anything may have. */
export function onGrant(listener: (grant: string) => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function onLink(watcher: (link: Link) => void): () => void {
  watchers.add(watcher);
  watcher(link);
  return () => watchers.delete(watcher);
}

/** Watches until the returned function is called. A window that nobody sees holds no stream. */
export function watch(): () => void {
  const follow = () => {
    stop?.abort();
    stop = undefined;
    if (document.visibilityState === "visible") {
      stop = new AbortController();
      void keepWatching(stop.signal);
    }
  };
  document.addEventListener("visibilitychange", follow);
  follow();
  return () => {
    document.removeEventListener("visibilitychange", follow);
    stop?.abort();
    stop = undefined;
    revision = 0n;
    history = "";
  };
}

async function keepWatching(signal: AbortSignal): Promise<void> {
  let wait = FIRST_WAIT;
  while (!signal.aborted) {
    try {
      await follow(signal, () => {
        wait = FIRST_WAIT;
      });
    } catch (fault) {
      if (isOver(fault) || (isUnauthenticated(fault) && !(await replace()))) {
        break;
      }
      if (!knowsPlace(fault)) {
        revision = 0n;
        history = "";
      }
    }
    if (!signal.aborted) {
      become("asking");
      await pause(wait, signal);
      tell("");
      wait = Math.min(wait * 2, ASK_EVERY);
    }
  }
  become("away");
}

/** Whether the service may still know where the stream was: it says so if it does not, as after a restored backup. */
function knowsPlace(fault: unknown): boolean {
  return ![Code.InvalidArgument, Code.OutOfRange].includes(ConnectError.from(fault).code);
}

async function follow(signal: AbortSignal, lives: () => void): Promise<void> {
  const own = new AbortController();
  const end = () => own.abort();
  signal.addEventListener("abort", end);
  let dog = window.setTimeout(end, DEAD_AFTER);
  try {
    const request = { startRevision: revision, startHistory: history, view: View.VISIBLE };
    for await (const event of grants.watchGrants(request, { signal: own.signal })) {
      window.clearTimeout(dog);
      dog = window.setTimeout(end, DEAD_AFTER);
      lives();
      become("live");
      revision = event.revision;
      history = event.history || history;
      if (!SILENT.has(event.eventType)) {
        tell(event.grant?.name ?? "");
      }
    }
  } finally {
    window.clearTimeout(dog);
    signal.removeEventListener("abort", end);
  }
}

function pause(span: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = window.setTimeout(resolve, span);
    signal.addEventListener("abort", () => {
      window.clearTimeout(timer);
      resolve();
    });
  });
}

function tell(grant: string): void {
  listeners.forEach((listener) => listener(grant));
}

function become(next: Link): void {
  if (link !== next) {
    link = next;
    watchers.forEach((watcher) => watcher(next));
  }
}
