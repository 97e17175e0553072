/** One grant at an address of its own, to which mail and chat link. Nothing is decided by opening it. */
import { type Grant, Grant_State as State, ListGrantsRequest_View as View } from "contract/jitaccess/v1/grant_pb";
import { useEffect, useRef, useState } from "preact/hooks";

import { audit, call, grants, policies } from "../api";
import { AuditTable } from "../audit/table";
import { Decide, type Decision } from "../grant/decide";
import { differences } from "../grant/differences";
import { GrantFacts, Steps, Terms } from "../grant/facts";
import { Outcome, WhyNot } from "../grant/outcome";
import { Acts } from "../grant/own";
import { StateBadge, waitsForMore } from "../grant/state";
import { Timeline } from "../grant/timeline";
import { useNow, useRead } from "../hooks";
import { useKeys } from "../keys";
import { reads, useMe } from "../me";
import { Notice, Reading } from "../parts/notice";
import { TimeBar } from "../parts/time";
import { Link } from "../router";
import { open, person, quoted } from "../words/text";
import { instant } from "../words/time";

export function OneGrant({ id }: { readonly id: string }) {
  const name = `grants/${id}`;
  const grant = useRead(() => grants.getGrant({ name }), [name], true);
  const isMine = useRead(() => isReviewable(name), [name, grant.answer?.etag]);
  if (grant.fault?.isGone && grant.answer === undefined) {
    return <Notice tone="warn">You may not see this grant, or there is none. Whoever sent you the link may see more than you.</Notice>;
  }
  return <Reading of={grant}>{(answer) => <Shown key={name} latest={answer} canDecide={isMine.answer} again={grant.again} />}</Reading>;
}

/** Only the service knows whether the caller may decide now; its list of what waits for the caller says so. */
async function isReviewable(name: string): Promise<boolean> {
  const found = await grants.listGrants({ view: View.REVIEWABLE, filter: `name = ${quoted(name)}`, pageSize: 1 });
  return found.grants.length > 0;
}

interface ShownProps {
  readonly latest: Grant;
  readonly canDecide: boolean | undefined;
  readonly again: () => Promise<void>;
}

function Shown({ latest, canDecide, again }: ShownProps) {
  const now = useNow();
  const me = useMe();
  const [grant, setGrant] = useState(latest);
  const [decision, setDecision] = useState<Decision>();
  const policy = useRead(() => policies.getPolicy({ name: grant.policy }), [grant.policy]);
  const isStale = canDecide === true && latest.etag !== grant.etag;
  const isOwn = useRef(false);
  const isOthers = grant.requester !== me.principal && grant.subject !== me.principal;
  useEffect(() => {
    // Who cannot decide has nothing to be misled about, and sees each change at once. So does who made it.
    if (!canDecide || latest.etag === grant.etag || isOwn.current) {
      isOwn.current = isOwn.current && latest.etag === grant.etag;
      setGrant(latest);
    }
  }, [latest, canDecide]);
  useKeys(canDecide ? { a: { does: "Approve", act: () => setDecision("approve") }, d: { does: "Deny", act: () => setDecision("deny") }, l: { does: "Give less", act: () => setDecision("less") } } : {});
  const [start, end] = [instant(grant.startTime), instant(grant.expireTime)];
  const done = () => { isOwn.current = true; setDecision(undefined); void again(); };
  return (
    <article class="detail">
      <p><StateBadge state={grant.state} /> <code>{grant.name}</code></p>
      {end !== undefined && start !== undefined && grant.endTime === undefined ? <TimeBar from={start} to={end} now={now} label="Time left" /> : null}
      {isStale ? (
        <Notice tone="warn">
          <p>It was changed while you looked at it:</p>
          <ul>{differences(grant, latest).map((each) => <li key={each}>{each}</li>)}</ul>
          <button type="button" onClick={() => { setDecision(undefined); setGrant(latest); }}>Show it as it is now</button>
        </Notice>
      ) : null}
      {grant.counterOffer ? <Notice tone="warn">{open(person(grant.counterOffer.reviewer))} offers {grant.counterOffer.terms ? <Terms terms={grant.counterOffer.terms} now={now} /> : null}</Notice> : null}
      <div class="actions">
        {canDecide ? (
          <>
            <button type="button" class="go" disabled={isStale} onClick={() => setDecision("approve")}>Approve <kbd>a</kbd></button>
            <button type="button" class="stop" disabled={isStale} onClick={() => setDecision("deny")}>Deny <kbd>d</kbd></button>
            <button type="button" disabled={isStale} onClick={() => setDecision("less")}>Give less <kbd>l</kbd></button>
          </>
        ) : null}
        <Acts grant={grant} me={me.principal} onDone={done} />
      </div>
      {canDecide ? <Outcome grant={grant} now={now} /> : canDecide === false && isOthers && (grant.state === State.PENDING || waitsForMore(grant)) ? <WhyNot grant={grant} /> : null}
      <GrantFacts grant={grant} now={now} />
      <h2>Decisions</h2>
      <Steps steps={grant.steps} now={now} />
      <h2>What happened</h2>
      <Timeline grant={grant} now={now} />
      {reads(me) ? <Records of={grant} /> : null}
      {decision && !isStale ? <Decide grant={grant} policy={policy.answer} decision={decision} onClose={() => setDecision(undefined)} onDone={done} /> : null}
    </article>
  );
}

function Records({ of: grant }: { readonly of: Grant }) {
  const found = useRead(() => call(() => audit.listAuditEvents({ filter: `grant = ${quoted(grant.name)}`, pageSize: 100 })), [grant.name, grant.revision]);
  return (
    <>
      <h2>Audit records</h2>
      <Reading of={found}>{(answer) => <AuditTable events={answer.auditEvents} />}</Reading>
      <p><Link to={`/audit?filter=${encodeURIComponent(`grant = ${quoted(grant.name)}`)}`}>Open in the audit log</Link></p>
    </>
  );
}
