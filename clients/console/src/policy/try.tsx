/** Trying policies out: one question to one policy, and a draft against what was really asked. */
import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import { type Policy, PolicySchema, PolicyTestCase_Outcome as Outcome, SimulatedChange_Kind as Kind } from "contract/jitaccess/v1/policy_pb";
import { useState } from "preact/hooks";

import { policies } from "../api";
import { lines } from "../grant/decide";
import { useChange, useNow } from "../hooks";
import { AreaField, TextField, wrongIn } from "../parts/field";
import { FaultNotice, Notice } from "../parts/notice";
import { When } from "../parts/time";
import { count, open, person, sentence } from "../words/text";
import { DAY, instant, timestamp } from "../words/time";

type Answer<Call extends (...given: never[]) => Promise<unknown>> = Awaited<ReturnType<Call>>;

export function TestQuestion({ policy }: { readonly policy: Policy }) {
  const [principal, setPrincipal] = useState("user:alice@example.com");
  const [groups, setGroups] = useState(policy.eligible?.groups.join("\n") ?? "");
  const [resource, setResource] = useState("");
  const [action, setAction] = useState(policy.actions.find((each) => !each.includes("*")) ?? "");
  const [answer, setAnswer] = useState<Answer<typeof policies.testPolicy>>();
  const ask = useChange(async (given: { principal: string; groups: string[]; resources: string[]; actions: string[]; justification: string }) => {
    setAnswer(await policies.testPolicy({ name: policy.name, cases: [given] }));
  });
  const result = answer?.results[0];
  return (
    <section>
      <h2>Test a question</h2>
      <form onSubmit={(event) => { event.preventDefault(); void ask.make({ principal, groups: lines(groups), resources: lines(resource), actions: lines(action), justification: "a test" }); }}>
        <TextField label="Who asks" value={principal} onText={setPrincipal} required wrong={wrongIn(ask.fault, "cases[0].principal")} />
        <AreaField label="Their groups" value={groups} onText={setGroups} help="One a line." />
        <TextField label="Resource" value={resource} onText={setResource} required wrong={wrongIn(ask.fault, "cases[0].resources")} />
        <TextField label="Action" value={action} onText={setAction} required wrong={wrongIn(ask.fault, "cases[0].actions")} />
        <FaultNotice fault={ask.fault} />
        <div class="actions"><button type="submit" class="go" disabled={ask.isBusy}>Test</button></div>
      </form>
      {result ? (
        <Notice tone={result.outcome === Outcome.REFUSED ? "bad" : "good"}>
          {sentence(Outcome[result.outcome])}{result.steps.length > 0 ? `, by step ${result.steps.join(", ")}` : ""} {open(result.message)} <span class="reason">{result.reason}</span>
        </Notice>
      ) : null}
    </section>
  );
}

const DRAFT = `[
  {
    "name": "policies/orders-read",
    "eligible": { "groups": ["engineering"] },
    "resources": ["database/orders/**"],
    "actions": ["read"],
    "maxDuration": "1800s"
  }
]`;

/** A draft of policies, judged on the requests and checks of the last days: whose answers would change. */
export function Simulate() {
  const now = useNow(60_000);
  const [draft, setDraft] = useState(DRAFT);
  const [days, setDays] = useState("7");
  const [prune, setPrune] = useState(false);
  const [answer, setAnswer] = useState<Answer<typeof policies.simulatePolicies>>();
  const [unread, setUnread] = useState("");
  const simulate = useChange(async (given: { draft: Policy[]; days: number; prune: boolean }) => {
    const end = Date.now();
    setAnswer(await policies.simulatePolicies({ policies: given.draft, prune: given.prune, startTime: timestamp(end - given.days * DAY), endTime: timestamp(end), maxChanges: 100 }));
  });
  const submit = (event: Event) => {
    event.preventDefault();
    setAnswer(undefined);
    try {
      const read = JSON.parse(draft) as JsonValue;
      const list = Array.isArray(read) ? read : ((read as { policies?: JsonValue[] }).policies ?? []);
      setUnread("");
      void simulate.make({ draft: list.map((each) => fromJson(PolicySchema, each)), days: Number(days) || 7, prune });
    } catch (fault) {
      setUnread(fault instanceof Error ? fault.message : String(fault));
    }
  };
  return (
    <section class="panel">
      <h2>Simulate a draft</h2>
      <form onSubmit={submit}>
        <AreaField label="Draft, as JSON" value={draft} onText={setDraft} rows={10} class="code" help="Policies as the API has them. They replace those of the same name; nothing is changed." wrong={unread || wrongIn(simulate.fault, "policies")} />
        <TextField label="Over the last days" value={days} onText={setDays} pattern="[0-9]+" wrong={wrongIn(simulate.fault, "start_time")} />
        <label class="check"><input type="checkbox" checked={prune} onChange={(event) => setPrune(event.currentTarget.checked)} /> The draft is all policies: others would go</label>
        <FaultNotice fault={simulate.fault} />
        <div class="actions"><button type="submit" class="go" disabled={simulate.isBusy}>Simulate</button></div>
      </form>
      {answer ? (
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
      ) : null}
    </section>
  );
}
