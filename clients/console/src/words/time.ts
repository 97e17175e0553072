/** Instants and durations, in the browser's language and zone. Spans are milliseconds. */
import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";

export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const WITH_DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
const DAY_ONLY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

export function instant(at: Timestamp | undefined): number | undefined {
  return at === undefined ? undefined : Number(at.seconds) * 1000 + Math.floor(at.nanos / 1e6);
}

export function span(given: Duration | undefined): number {
  return given === undefined ? 0 : Number(given.seconds) * 1000 + Math.floor(given.nanos / 1e6);
}

export function duration(given: number): { seconds: bigint; nanos: number } {
  return { seconds: BigInt(Math.floor(given / 1000)), nanos: Math.round(given % 1000) * 1e6 };
}

export function timestamp(at: number): { seconds: bigint; nanos: number } {
  return { seconds: BigInt(Math.floor(at / 1000)), nanos: (((at % 1000) + 1000) % 1000) * 1e6 };
}

/** `14:05` today, else `3 Mar, 14:05`. */
export function moment(at: number, now: number): string {
  return new Date(at).toDateString() === new Date(now).toDateString() ? CLOCK.format(at) : WITH_DAY.format(at);
}

export function fully(at: number): string {
  return FULL.format(at);
}

export function day(at: number): string {
  return DAY_ONLY.format(at);
}

/** `1 h 30 min`: the two largest units, so that nobody has to count. */
export function spell(given: number): string {
  return largest(given, 2);
}

/** `2 h`: the largest unit alone, rounded down, where there is no room for more. */
export function briefly(given: number): string {
  return largest(given, 1);
}

function largest(given: number, units: number): string {
  const seconds = Math.max(0, Math.round(given / 1000));
  const parts: [number, string][] = [
    [Math.floor(seconds / 86_400), "d"],
    [Math.floor((seconds % 86_400) / 3600), "h"],
    [Math.floor((seconds % 3600) / 60), "min"],
    [seconds % 60, "s"],
  ];
  const first = parts.findIndex(([number]) => number > 0);
  const shown = parts.slice(first < 0 ? 3 : first, first < 0 ? 4 : first + units).filter(([number], at) => number > 0 || at === 0);
  return shown.map(([number, unit]) => `${number} ${unit}`).join(" ");
}

/** `in 5 min`, `3 h ago`. */
export function relative(at: number, now: number): string {
  if (Math.abs(at - now) < 1000) {
    return "now";
  }
  return at > now ? `in ${spell(at - now)}` : `${spell(now - at)} ago`;
}

/** Reads `90`, `90 min`, `1h30m`, `2 days`. Returns milliseconds; undefined for anything else. */
export function readSpan(text: string): number | undefined {
  const units: Record<string, number> = { s: 1000, m: MINUTE, h: HOUR, d: DAY };
  const given = text.trim().toLowerCase();
  if (/^\d+$/.test(given)) {
    return Number(given) * MINUTE;
  }
  const parts = [...given.matchAll(/(\d+(?:\.\d+)?)\s*(s|m|h|d)[a-z]*\s*/g)];
  if (parts.length === 0 || parts.map(([whole]) => whole).join("") !== given) {
    return undefined;
  }
  return parts.reduce((sum, [, number, unit]) => sum + Number(number) * (units[unit ?? ""] ?? 0), 0);
}

/** For `<input type="datetime-local">`, which has no zone of its own. */
export function toLocalInput(at: number): string {
  const zone = new Date(at).getTimezoneOffset() * MINUTE;
  return new Date(at - zone).toISOString().slice(0, 16);
}
