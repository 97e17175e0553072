/** All grants that the caller may see, by the API's own filter; and the emergencies that still owe a review. */
import { toJson } from "@bufbuild/protobuf";
import { type Grant, GrantSchema, ListGrantsRequest_View as View } from "contract/jitaccess/v1/grant_pb";
import { useState } from "preact/hooks";

import { call, grants } from "../api";
import { summary } from "../grant/decide";
import { Acts } from "../grant/own";
import { StateBadge } from "../grant/state";
import { useNow, useRead } from "../hooks";
import { reads, responds, useMe } from "../me";
import { Download } from "../parts/download";
import { FilterField } from "../parts/filter";
import { Empty, Reading } from "../parts/notice";
import { When } from "../parts/time";
import { keepQuery, Link, query } from "../router";
import { last, open, person } from "../words/text";
import { instant } from "../words/time";

const PAGE = 50;
const READY = [
  ["Live", "state = ACTIVE OR state = SCHEDULED"],
  ["Waiting", "state = PENDING"],
  ["Denied", "state = DENIED"],
  ["Revoked", "state = REVOKED"],
] as const;

export function AllGrants() {
  const me = useMe();
  const now = useNow(10_000);
  const [filter, setFilter] = useState(() => query("filter"));
  const [more, setMore] = useState(1);
  const view = reads(me) || responds(me) ? View.ALL : View.VISIBLE;
  const found = useRead(() => pages(view, filter, more), [view, filter, more], true);
  const search = (text: string) => {
    keepQuery({ filter: text });
    setMore(1);
    setFilter(text);
  };
  return (
    <>
      <FilterField value={filter} ready={READY} onSearch={search} fault={found.fault}
        help={<>As the API has it: <code>subject = "user:alice@example.com"</code>, <code>policy = "policies/orders-write"</code>, <code>covers:"database/orders/eu"</code>, <code>reviewers:"user:bob@example.com"</code>, with AND, OR, NOT.</>} />
      <Reading of={found}>
        {(answer) => (
          <>
            <GrantTable grants={answer.grants} now={now} />
            <div class="actions">
              {answer.isMore ? <button type="button" onClick={() => setMore(more + 1)}>More</button> : null}
              <Download name="grants.ndjson" text={() => answer.grants.map((grant) => JSON.stringify(toJson(GrantSchema, grant))).join("\n")}>Download these {answer.grants.length} as JSON</Download>
            </div>
          </>
        )}
      </Reading>
    </>
  );
}

/** So many pages from the first one on; a page may be empty and yet have a next one. */
async function pages(view: View, filter: string, number: number): Promise<{ grants: Grant[]; isMore: boolean }> {
  const found: Grant[] = [];
  let pageToken = "";
  for (let at = 0; at < number; at += 1) {
    const page = await call(() => grants.listGrants({ view, filter, pageToken, pageSize: PAGE }));
    found.push(...page.grants);
    pageToken = page.nextPageToken;
    if (pageToken === "") {
      break;
    }
  }
  return { grants: found, isMore: pageToken !== "" };
}

function GrantTable({ grants: list, now }: { readonly grants: readonly Grant[]; readonly now: number }) {
  if (list.length === 0) {
    return <Empty>No grant matches.</Empty>;
  }
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Grants">
      <table class="stacks" role="table">
        <thead role="rowgroup"><tr role="row"><th scope="col" role="columnheader">State</th><th scope="col" role="columnheader">Who</th><th scope="col" role="columnheader">What</th><th scope="col" role="columnheader">Policy</th><th scope="col" role="columnheader">Asked</th><th scope="col" role="columnheader">Ends</th></tr></thead>
        <tbody role="rowgroup">
          {list.map((grant) => (
            <tr role="row" key={grant.name}>
              <td role="cell"><StateBadge state={grant.state} /></td>
              <td role="cell">{open(person(grant.subject))}</td>
              <td role="cell"><Link to={`/${grant.name}`}>{summary(grant)}</Link></td>
              <td role="cell"><Link to={`/policies/${last(grant.policy)}`}>{last(grant.policy)}</Link></td>
              <td role="cell"><When at={instant(grant.createTime)} now={now} /></td>
              <td role="cell"><When at={instant(grant.endTime) ?? instant(grant.expireTime)} now={now} /></td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** Emergencies whose review nobody has completed yet, those that are late first. */
export function ReviewsOwed() {
  const me = useMe();
  const now = useNow(10_000);
  const owed = useRead(() => grants.listGrants({ view: View.REVIEW_DEBT, pageSize: 200 }), [], true);
  return (
    <Reading of={owed}>
      {(answer) =>
        answer.grants.length === 0 ? <Empty>No emergency owes a review.</Empty> : (
          <ul class="cards">
            {[...answer.grants].sort(byDueTime).map((grant) => (
              <li key={grant.name} class="card">
                <div class="card-head"><StateBadge state={grant.state} /><Link to={`/${grant.name}`}>{summary(grant)}</Link></div>
                <p>{open(person(grant.subject))}: <span class="said">{open(grant.justification?.text ?? "")}</span></p>
                <p>{(instant(grant.reviewDueTime) ?? now) < now ? <strong>Overdue since </strong> : "Due "}<When at={instant(grant.reviewDueTime)} now={now} /></p>
                <div class="actions"><Acts grant={grant} me={me.principal} onDone={() => void owed.again()} /></div>
              </li>
            ))}
          </ul>
        )
      }
    </Reading>
  );
}

function byDueTime(one: Grant, other: Grant): number {
  return (instant(one.reviewDueTime) ?? 0) - (instant(other.reviewDueTime) ?? 0);
}
