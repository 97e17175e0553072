/** For those who steer: who holds what now, how much is asked and how fast it is decided, why it is denied, what is unused. */
import { type Grant, Grant_State as State, ListGrantsRequest_View as View } from "contract/jitaccess/v1/grant_pb";
import type { Policy } from "contract/jitaccess/v1/policy_pb";

import { audit, call, grants } from "../api";
import { summary } from "../grant/decide";
import { isLive } from "../grant/state";
import { useNow, useRead } from "../hooks";
import { Empty, Notice, Reading } from "../parts/notice";
import { When } from "../parts/time";
import { Link } from "../router";
import { count, last, open, person, sentence } from "../words/text";
import { briefly, DAY, day, HOUR, instant, spell } from "../words/time";
import { everyPolicy } from "./policies";

const DAYS = 14;
/** No more is read than so many grants and records; the page says when that was not all. */
const MOST = 5000;
const SHOWN = 40;
const REFUSED = "event_type = CALL_REFUSED";
const DENIED_CHECKS = 'event_type = ACCESS_CHECKED AND decision = "DENIED"';
const BY_A_REVIEWER = "DENIED_BY_A_REVIEWER";

/** How often each reason was given, among the newest records. */
interface Counted {
  readonly by: ReadonlyMap<string, number>;
  readonly isAll: boolean;
}

interface Seen {
  readonly live: readonly Grant[];
  readonly lately: readonly Grant[];
  readonly refused: Counted;
  readonly checks: Counted;
  readonly policies: readonly Policy[];
  readonly isAll: boolean;
}

export function Overview() {
  const seen = useRead(look, []);
  const now = useNow(10_000);
  return (
    <Reading of={seen}>
      {(answer) => (
        <>
          {answer.isAll ? null : <Notice tone="warn">There is more than {MOST}: these pictures are of the newest.</Notice>}
          <section class="panel"><h2>Who holds what now</h2><Holders of={answer.live} now={now} /></section>
          <section class="panel"><h2>Requests of the last {DAYS} days</h2><Days of={answer.lately} now={now} /></section>
          <section class="panel">
            <h2>Denials by reason</h2>
            <h3>Requests and calls</h3>
            <Reasons of={answer.refused.by} among={REFUSED} none="No request was denied, and no call refused." />
            <h3>Checks</h3>
            <Reasons of={answer.checks.by} among={DENIED_CHECKS} none="No check on record was a no." />
          </section>
          <section class="panel"><h2>Policies that nobody used in {DAYS} days</h2><Unused of={answer} /></section>
        </>
      )}
    </Reading>
  );
}

async function look(): Promise<Seen> {
  const since = new Date(Date.now() - DAYS * DAY).toISOString();
  const [live, lately, calls, checks, policies] = await Promise.all([
    all(`state = ACTIVE OR state = SCHEDULED`),
    all(`create_time >= "${since}"`),
    reasons(REFUSED, since),
    reasons(DENIED_CHECKS, since),
    everyPolicy(),
  ]);
  const isAll = live.length < MOST && lately.length < MOST && calls.isAll && checks.isAll;
  const denied = lately.filter((grant) => grant.state === State.DENIED).length;
  const refused = { ...calls, by: denied > 0 ? new Map([...calls.by, [BY_A_REVIEWER, denied]]) : calls.by };
  return { live: live.filter(isLive), lately, refused, checks, policies, isAll };
}

async function all(filter: string): Promise<Grant[]> {
  const found: Grant[] = [];
  let pageToken = "";
  do {
    const page = await call(() => grants.listGrants({ view: View.ALL, filter, pageToken, pageSize: 1000 }));
    found.push(...page.grants);
    pageToken = page.nextPageToken;
  } while (pageToken !== "" && found.length < MOST);
  return found;
}

async function reasons(among: string, since: string): Promise<Counted> {
  const found = new Map<string, number>();
  let pageToken = "";
  let number = 0;
  do {
    const page = await call(() => audit.listAuditEvents({ filter: `${among} AND event_time >= "${since}"`, pageToken, pageSize: 1000, orderBy: "seq desc" }));
    page.auditEvents.forEach((event) => found.set(event.reason, (found.get(event.reason) ?? 0) + Math.max(1, Number(event.repeatCount))));
    number += page.auditEvents.length;
    pageToken = page.nextPageToken;
  } while (pageToken !== "" && number < MOST);
  return { by: found, isAll: pageToken === "" };
}

/** Live grants as bars on one axis of time; the nearest end comes first. */
function Holders({ of: live, now }: { readonly of: readonly Grant[]; readonly now: number }) {
  if (live.length === 0) {
    return <Empty>Nobody holds anything now.</Empty>;
  }
  const shown = [...live].sort((one, other) => (instant(one.expireTime) ?? 0) - (instant(other.expireTime) ?? 0)).slice(0, SHOWN);
  const from = Math.min(...shown.map((grant) => instant(grant.startTime) ?? now), now - HOUR);
  const to = Math.max(...shown.map((grant) => instant(grant.expireTime) ?? now), now + HOUR);
  const part = (at: number) => `${(((Math.min(Math.max(at, from), to) - from) / (to - from)) * 100).toFixed(2)}%`;
  const width = (grant: Grant) => `${Math.max(0.5, (((instant(grant.expireTime) ?? to) - (instant(grant.startTime) ?? from)) / (to - from)) * 100).toFixed(2)}%`;
  return (
    <>
      <ul class="holders">
        {shown.map((grant) => (
          <li key={grant.name}>
            <span><Link to={`/${grant.name}`}>{open(person(grant.subject))}</Link> <span class="soft">{summary(grant)}, until <When at={instant(grant.expireTime)} now={now} /></span></span>
            <span class="lane" aria-hidden="true"><span class={grant.state === State.ACTIVE ? "bar" : "bar later"} style={{ left: part(instant(grant.startTime) ?? from), width: width(grant) }} /><span class="nowline" style={{ left: part(now) }} /></span>
          </li>
        ))}
      </ul>
      {live.length > SHOWN ? <p><Link to={`/grants?filter=${encodeURIComponent("state = ACTIVE OR state = SCHEDULED")}`}>All {live.length}</Link></p> : null}
    </>
  );
}

interface Day {
  readonly at: number;
  readonly asked: number;
  readonly median: number | undefined;
}

function daysOf(lately: readonly Grant[], now: number): Day[] {
  const today = new Date(now).setHours(0, 0, 0, 0);
  return Array.from({ length: DAYS }, (_, back) => {
    const at = new Date(today).setDate(new Date(today).getDate() - (DAYS - 1 - back));
    const end = new Date(at).setDate(new Date(at).getDate() + 1);
    const asked = lately.filter((grant) => (instant(grant.createTime) ?? 0) >= at && (instant(grant.createTime) ?? 0) < end);
    const waits = asked.filter((grant) => grant.reviews.length > 0).map((grant) => (instant(grant.approveTime) ?? instant(grant.endTime) ?? 0) - (instant(grant.createTime) ?? 0)).filter((wait) => wait >= 0).sort((one, other) => one - other);
    return { at, asked: asked.length, median: waits[Math.floor(waits.length / 2)] };
  });
}

function Days({ of: lately, now }: { readonly of: readonly Grant[]; readonly now: number }) {
  const days = daysOf(lately, now);
  return (
    <>
      <h3>How many were asked for</h3>
      <Bars label="Requests by day" of={days.map((each) => ({ at: each.at, height: each.asked, said: `${each.asked}` }))} />
      <h3>How long a decision took, by the median</h3>
      <Bars label="Median time to decision by day" of={days.map((each) => ({ at: each.at, height: each.median ?? 0, said: briefly(each.median ?? 0) }))} />
      <details><summary>As a table</summary>
        <table><thead><tr><th scope="col">Day</th><th scope="col">Requests</th><th scope="col">Median time to decision</th></tr></thead>
          <tbody>{days.map((each) => <tr key={each.at}><td>{day(each.at)}</td><td>{each.asked}</td><td>{each.median === undefined ? "–" : spell(each.median)}</td></tr>)}</tbody></table>
      </details>
    </>
  );
}

interface Bar {
  readonly at: number;
  readonly height: number;
  readonly said: string;
}

/** A bar a day, with its value above it. A day of which there is nothing to say has none. */
function Bars({ label, of: bars }: { readonly label: string; readonly of: readonly Bar[] }) {
  const most = Math.max(...bars.map((each) => each.height)) || 1;
  const words = bars.filter((each) => each.height > 0).map((each) => `${day(each.at)}: ${each.said}`).join(", ");
  return (
    <div class="days" role="img" aria-label={`${label}: ${words || "none"}`}>
      {bars.map((each, at) => (
        <span key={each.at}>
          <span class="column">
            {each.height > 0 ? <><span>{each.said}</span><span class="bar" style={{ height: `${((each.height / most) * 80).toFixed(2)}%` }} /></> : null}
          </span>
          <span class="day">{at % 3 === 1 ? day(each.at) : ""}</span>
        </span>
      ))}
    </div>
  );
}

interface ReasonsProps {
  readonly of: ReadonlyMap<string, number>;
  readonly among: string;
  readonly none: string;
}

function Reasons({ of: reasons, among, none }: ReasonsProps) {
  const sorted = [...reasons].sort(([, one], [, other]) => other - one).slice(0, 12);
  if (sorted.length === 0) {
    return <Empty>{none}</Empty>;
  }
  const most = sorted[0]?.[1] ?? 1;
  return (
    <ul class="holders">
      {sorted.map(([reason, number]) => (
        <li key={reason}>
          <span>{reason === BY_A_REVIEWER ? sentence(reason) : <Link to={`/audit?filter=${encodeURIComponent(`${among} AND reason = "${reason}"`)}`}>{sentence(reason)}</Link>} <span class="soft">{count(number, "time")}</span></span>
          <span class="lane" aria-hidden="true"><span class="bar bad" style={{ left: "0%", width: `${((number / most) * 100).toFixed(2)}%` }} /></span>
        </li>
      ))}
    </ul>
  );
}

function Unused({ of: seen }: { readonly of: Seen }) {
  const used = new Set([...seen.lately, ...seen.live].map((grant) => grant.policy));
  const unused = seen.policies.filter((policy) => !policy.deny && !used.has(policy.name));
  if (unused.length === 0) {
    return <Empty>Each policy was used.</Empty>;
  }
  return <ul class="short">{unused.map((policy) => <li key={policy.name}><Link to={`/${policy.name}`}>{open(policy.displayName || last(policy.name))}</Link>{policy.disabled ? <span class="soft"> is off</span> : null}</li>)}</ul>;
}
