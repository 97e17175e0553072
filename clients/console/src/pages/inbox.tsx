/** What waits for the caller's decision, with everything that is needed to decide. */
import { type Grant, ListGrantsRequest_View as View } from "contract/jitaccess/v1/grant_pb";
import type { Policy } from "contract/jitaccess/v1/policy_pb";
import { useEffect, useRef, useState } from "preact/hooks";

import { call, grants, policies } from "../api";
import { Decide, type Decision, summary } from "../grant/decide";
import { differences } from "../grant/differences";
import { Fact, Facts, GrantFacts, Steps } from "../grant/facts";
import { Outcome } from "../grant/outcome";
import { StateBadge, waitsForMore } from "../grant/state";
import { useNow, useRead } from "../hooks";
import { Empty, FaultNotice, Notice, Reading } from "../parts/notice";
import { When } from "../parts/time";
import { Link } from "../router";
import { useKeys } from "../keys";
import { open, person, quoted } from "../words/text";
import { instant, relative, span, spell } from "../words/time";

const PAGE = 100;
const FEW = 6;

export function Inbox() {
  const now = useNow();
  const waiting = useRead(() => grants.listGrants({ view: View.REVIEWABLE, pageSize: PAGE, orderBy: "create_time" }), [], true);
  const [chosen, setChosen] = useState("");
  const [decision, setDecision] = useState<Decision>();
  const list = waiting.answer?.grants ?? [];
  const at = Math.max(0, list.findIndex((grant) => grant.name === chosen));
  const grant = list[at];
  const move = (by: number) => {
    const next = list[Math.min(list.length - 1, Math.max(0, at + by))];
    if (next !== undefined) {
      setChosen(next.name);
      document.getElementById(`item-${next.name}`)?.focus();
    }
  };
  useKeys({
    j: { does: "Next request", act: () => move(1) },
    k: { does: "Request before", act: () => move(-1) },
    a: { does: "Approve", act: () => grant && setDecision("approve") },
    d: { does: "Deny", act: () => grant && setDecision("deny") },
    l: { does: "Give less", act: () => grant && setDecision("less") },
  });
  useEffect(() => {
    if (grant !== undefined && chosen === "") {
      setChosen(grant.name);
    }
  }, [grant?.name]);
  useEffect(() => {
    if (list.length === 0) {
      takeFocus(document.querySelector("h1"));
    }
  }, [list.length]);
  return (
    <Reading of={waiting}>
      {() =>
        grant === undefined ? (
          <Empty>Nothing waits for you. What is asked for shows up here by itself.</Empty>
        ) : (
          <div class="split">
            <ul class="items" aria-label="Waiting">
              {list.map((each) => (
                <Item key={each.name} grant={each} now={now} isChosen={each.name === grant.name} onChoose={() => setChosen(each.name)} />
              ))}
            </ul>
            <Waiting key={grant.name} grant={grant} now={now} decision={decision} setDecision={setDecision} onDone={waiting.again} />
          </div>
        )
      }
    </Reading>
  );
}

/** Focuses the element if nothing has the focus. */
function takeFocus(element: HTMLElement | null): void {
  if (document.activeElement === document.body) {
    element?.focus({ preventScroll: true });
  }
}

interface ItemProps {
  readonly grant: Grant;
  readonly now: number;
  readonly isChosen: boolean;
  readonly onChoose: () => void;
}

function Item({ grant, now, isChosen, onChoose }: ItemProps) {
  const until = instant(waitsForMore(grant) ? grant.extension?.requestExpireTime : grant.requestExpireTime);
  return (
    <li>
      <button type="button" id={`item-${grant.name}`} class="item" aria-current={isChosen ? "true" : undefined} onClick={onChoose}>
        <strong>{open(person(grant.subject))}</strong>
        <span class="line">{summary(grant)}</span>
        <span class="soft">{until === undefined ? "" : `to be decided ${relative(until, now)}`}</span>
      </button>
    </li>
  );
}

interface WaitingProps {
  readonly grant: Grant;
  readonly now: number;
  readonly decision: Decision | undefined;
  readonly setDecision: (decision: Decision | undefined) => void;
  readonly onDone: () => Promise<void>;
}

/** One request. It stays as it was when it was opened: a newer version is shown only when its reviewer asks for it. */
function Waiting({ grant, now, decision, setDecision, onDone }: WaitingProps) {
  const [shown, setShown] = useState(grant);
  const context = useRead(() => around(shown), [shown.etag]);
  const heading = useRef<HTMLHeadingElement>(null);
  const isStale = grant.etag !== shown.etag;
  const isOwn = useRef(false);
  useEffect(() => {
    if (isOwn.current && isStale) {
      isOwn.current = false;
      setShown(grant);
    }
  }, [grant.etag]);
  // Where the request before is gone, and the focus with it, this one gets it.
  useEffect(() => takeFocus(heading.current), []);
  const done = () => {
    isOwn.current = true;
    setDecision(undefined);
    void onDone();
  };
  const policy = context.answer?.policy;
  return (
    <article class="detail" aria-labelledby="detail-title">
      <h2 id="detail-title" ref={heading} tabIndex={-1}>
        {open(person(shown.subject))} asks for {waitsForMore(shown) ? "more time" : "access"}
      </h2>
      <p><Link to={`/${shown.name}`}>Open its page</Link></p>
      {isStale ? (
        <Notice tone="warn">
          <p>It was changed while you looked at it:</p>
          <ul>{differences(shown, grant).map((each) => <li key={each}>{each}</li>)}</ul>
          <button type="button" onClick={() => { setDecision(undefined); setShown(grant); heading.current?.focus(); }}>Show it as it is now</button>
        </Notice>
      ) : null}
      <div class="actions">
        <button type="button" class="go" disabled={isStale} onClick={() => setDecision("approve")}>Approve <kbd>a</kbd></button>
        <button type="button" class="stop" disabled={isStale} onClick={() => setDecision("deny")}>Deny <kbd>d</kbd></button>
        <button type="button" disabled={isStale} onClick={() => setDecision("less")}>Give less <kbd>l</kbd></button>
      </div>
      {policy?.displayName ? <p>Under “{open(policy.displayName)}”.</p> : null}
      <Outcome grant={shown} now={now} />
      <GrantFacts grant={shown} now={now} />
      {waitsForMore(shown) ? <MoreTime grant={shown} now={now} /> : null}
      <h3>Who else may decide</h3>
      <Steps steps={shown.steps} now={now} />
      <FaultNotice fault={context.fault} />
      {context.answer ? <Around of={context.answer} now={now} /> : <p class="waiting" role="status">Reading what else there is …</p>}
      {decision && !isStale ? <Decide grant={shown} policy={policy} decision={decision} onClose={() => setDecision(undefined)} onDone={done} /> : null}
    </article>
  );
}

function MoreTime({ grant, now }: { readonly grant: Grant; readonly now: number }) {
  const text = grant.extension?.justification?.text ?? "";
  return (
    <Facts>
      <Fact name="More time">{spell(span(grant.extension?.duration))}, asked for <When at={instant(grant.extension?.createTime)} now={now} /></Fact>
      <Fact name="Why more">{text ? <p class="said">{open(text)}</p> : <span class="soft">no words given</span>}</Fact>
    </Facts>
  );
}

interface Surroundings {
  readonly policy: Policy | undefined;
  readonly has: readonly Grant[];
  readonly others: readonly Grant[];
}

/** What helps to decide: the policy, what this person has already, and what others got under it lately. */
async function around(grant: Grant): Promise<Surroundings> {
  const [policy, has, others] = await Promise.all([
    call(() => policies.getPolicy({ name: grant.policy })).catch(() => undefined),
    call(() => grants.listGrants({ view: View.VISIBLE, filter: `subject = ${quoted(grant.subject)} AND (state = ACTIVE OR state = SCHEDULED)`, pageSize: FEW })),
    call(() => grants.listGrants({ view: View.VISIBLE, filter: `policy = ${quoted(grant.policy)} AND NOT subject = ${quoted(grant.subject)} AND NOT state = PENDING`, pageSize: FEW })),
  ]);
  const isOther = (each: Grant) => each.name !== grant.name;
  return { policy, has: has.grants.filter(isOther), others: others.grants.filter(isOther) };
}

function Around({ of, now }: { readonly of: Surroundings; readonly now: number }) {
  return (
    <>
      <h3>What this person has already</h3>
      <Short of={of.has} now={now} none="Nothing that you may see." />
      <h3>What others got under this policy lately</h3>
      <Short of={of.others} now={now} none="Nothing that you may see." />
    </>
  );
}

function Short({ of, now, none }: { readonly of: readonly Grant[]; readonly now: number; readonly none: string }) {
  if (of.length === 0) {
    return <p class="soft">{none}</p>;
  }
  return (
    <ul class="short">
      {of.map((grant) => (
        <li key={grant.name}>
          <StateBadge state={grant.state} /> <Link to={`/${grant.name}`}>{open(person(grant.subject))}</Link>: {summary(grant)}{" "}
          <span class="soft"><When at={instant(grant.createTime)} now={now} /></span>
        </li>
      ))}
    </ul>
  );
}
