/** A draft of policies: what it would answer to what was really asked, and making it count. */
import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import { type ApplyPoliciesResponse, type Policy, PolicySchema, type SimulatePoliciesResponse, SimulatedChange_Kind as Kind } from "contract/jitaccess/v1/policy_pb";
import { useState } from "preact/hooks";

import { policies } from "../api";
import { useChange, useNow } from "../hooks";
import { administers, useMe } from "../me";
import { AreaField, TextField, wrongIn } from "../parts/field";
import { FaultNotice, Notice } from "../parts/notice";
import { When } from "../parts/time";
import { count, open, person, sentence } from "../words/text";
import { DAY, instant, timestamp } from "../words/time";
import { Applied, Apply } from "./apply";

const DRAFT = `[
  {
    "name": "policies/orders-read",
    "eligible": { "groups": ["engineering"] },
    "resources": ["database/orders/**"],
    "actions": ["read"],
    "maxDuration": "1800s"
  }
]`;

/** A draft, judged on the requests and checks of the last days: whose answers would change. Admins apply it from here. */
export function Draft({ onChanged }: { readonly onChanged: () => void }) {
  const me = useMe();
  const [text, setText] = useState(DRAFT);
  const [days, setDays] = useState("7");
  const [prune, setPrune] = useState(false);
  const [unread, setUnread] = useState("");
  const [answer, setAnswer] = useState<SimulatePoliciesResponse>();
  const [applying, setApplying] = useState<readonly Policy[]>();
  const [applied, setApplied] = useState<ApplyPoliciesResponse>();
  const simulate = useChange(async (given: { draft: Policy[]; days: number; prune: boolean }) => {
    const end = Date.now();
    setAnswer(await policies.simulatePolicies({ policies: given.draft, prune: given.prune, startTime: timestamp(end - given.days * DAY), endTime: timestamp(end), maxChanges: 100 }));
  });
  const use = (act: (draft: Policy[]) => void) => {
    setAnswer(undefined);
    setApplied(undefined);
    try {
      const draft = read(text);
      setUnread("");
      act(draft);
    } catch (fault) {
      setUnread(fault instanceof Error ? fault.message : String(fault));
    }
  };
  const done = (response: ApplyPoliciesResponse) => {
    setApplying(undefined);
    setApplied(response);
    onChanged();
  };
  return (
    <section class="panel">
      <h2>{administers(me) ? "Try and apply a draft" : "Simulate a draft"}</h2>
      <form onSubmit={(event) => { event.preventDefault(); use((draft) => void simulate.make({ draft, days: Number(days) || 7, prune })); }}>
        <AreaField label="Draft, as JSON" value={text} onText={setText} rows={10} class="code" help="Policies as the API has them. They replace those of the same name. Simulating changes nothing." wrong={unread || wrongIn(simulate.fault, "policies")} />
        <TextField label="Over the last days" value={days} onText={setDays} pattern="[0-9]+" wrong={wrongIn(simulate.fault, "start_time")} />
        <label class="check"><input type="checkbox" checked={prune} onChange={(event) => setPrune(event.currentTarget.checked)} /> The draft is all policies: others would go</label>
        <FaultNotice fault={simulate.fault} />
        <div class="actions">
          <button type="submit" class="go" disabled={simulate.isBusy}>Simulate</button>
          {administers(me) ? <button type="button" onClick={() => { simulate.forget(); use(setApplying); }}>Apply …</button> : null}
        </div>
      </form>
      {answer ? <Simulated answer={answer} /> : null}
      {applied ? <Applied of={applied} /> : null}
      {applying ? <Apply draft={applying} prune={prune} onClose={() => setApplying(undefined)} onDone={done} /> : null}
    </section>
  );
}

/** The policies of a list, or of an object with `policies`. Throws what is wrong with the text. */
function read(text: string): Policy[] {
  const given = JSON.parse(text) as JsonValue;
  const list = Array.isArray(given) ? given : ((given as { policies?: JsonValue[] }).policies ?? []);
  return list.map((each) => fromJson(PolicySchema, each));
}

function Simulated({ answer }: { readonly answer: SimulatePoliciesResponse }) {
  const now = useNow(60_000);
  return (
    <>
      <Notice tone={answer.changedCount > 0 ? "warn" : "good"}>Of {count(answer.requestCount, "request")} and {count(answer.checkCount, "check")}, {count(answer.changedCount, "answer")} would change.</Notice>
      {answer.changes.length > 0 ? (
        <div class="scroll" tabIndex={0} role="region" aria-label="Answers that would change">
          <table>
            <thead><tr><th scope="col">When</th><th scope="col">What</th><th scope="col">Who</th><th scope="col">About</th><th scope="col">Was</th><th scope="col">Would be</th></tr></thead>
            <tbody>{answer.changes.map((change, at) => (
              <tr key={at}><td><When at={instant(change.eventTime)} now={now} /></td><td>{sentence(Kind[change.kind])}</td><td>{open(person(change.subject))}</td><td><code>{open(change.actions.join(", "))}</code> on <code>{open(change.resources.join(", "))}</code></td><td>{change.before} {change.beforeReason}</td><td>{change.after} {change.afterReason} {open(change.message)}</td></tr>
            ))}</tbody>
          </table>
        </div>
      ) : null}
    </>
  );
}
